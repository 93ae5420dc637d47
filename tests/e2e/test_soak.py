"""Mixed load for twenty minutes (`make soak`): flat memory, flat file descriptors, no request lost, no process left.

SOAK_SECONDS in the environment sets another duration.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import tempfile
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, servers
from tests.fakes.ggufs import tiny_llama
from tests.fakes.processes import children, is_alive, open_files, resident_bytes, until
from tests.fakes.rawclient import RawClient
from tests.fakes.registry import FakeRegistry
from tests.fakes.stores import add_model

from corral.store import ModelStore
from corral.store import manifests as media
from corral.store.care import HARMLESS, fsck

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

DURATION_S = float(os.environ.get("SOAK_SECONDS", "1200"))
WORKERS = 6
PATIENCE_S = 600.0  # of a client: what takes longer is lost
SAMPLES = 60
GROWTH = 1.10  # of the server's memory, from the second quarter to the last
SLACK_BYTES = 8 * 2**20
SMOLLM2 = {"model": "smollm2", "options": {"num_predict": 16, "num_ctx": 1024}}
TINY = {"model": "tiny", "options": {"num_predict": 8}}


class Load:
    """The actions, each a whole request as a client makes it; what it counts as `lost` ended in no allowed way."""

    def __init__(self, server: ServerProcess, registry_host: str) -> None:
        self.server = server
        self.registry_host = registry_host
        self.done: Counter[str] = Counter()
        self.lost: list[str] = []
        self._lock = threading.Lock()
        self._actions: list[tuple[int, Callable[[random.Random], None]]] = [
            (6, self.chat),
            (3, self.complete),
            (3, self.cancel_by_leaving),
            (2, self.cancel_by_delete),
            (2, self.embed),
            (2, self.unload),
            (1, self.pull_and_delete),
            (3, self.bad_request),
            (2, self.look),
        ]

    @property
    def actions(self) -> list[str]:
        """Their names."""
        return [action.__name__ for _, action in self._actions]

    def work(self, seed: int, deadline: float) -> None:
        """One worker: actions at random until the deadline."""
        chance = random.Random(seed)
        weights, actions = zip(*self._actions, strict=True)
        while time.monotonic() < deadline:
            action = chance.choices(actions, weights)[0]
            try:
                action(chance)
            except (OSError, ValueError, AssertionError, KeyError, IndexError) as error:
                with self._lock:
                    self.lost.append(f"{action.__name__}: {error!r}")
            with self._lock:
                self.done[action.__name__] += 1

    def chat(self, chance: random.Random) -> None:
        """A streamed answer, read to its end."""
        body = {
            **chance.choice((SMOLLM2, TINY, TINY)),
            "messages": [{"role": "user", "content": f"Say {chance.random()}"}],
        }
        lines = list(self.server.stream("/api/chat", body, PATIENCE_S))
        assert lines[-1].get("done"), lines[-1]

    def complete(self, chance: random.Random) -> None:
        """A whole answer."""
        body = {**chance.choice((SMOLLM2, TINY, TINY)), "prompt": f"Once {chance.random()}"}
        assert self.server.post("/api/generate", body, PATIENCE_S)["done"]

    def cancel_by_leaving(self, chance: random.Random) -> None:
        """A client that is gone before, or soon after, the first token."""
        with RawClient(self.server.port, PATIENCE_S) as client:
            client.post("/api/generate", {**SMOLLM2, "prompt": f"{chance.random()} " * 12})
            if chance.random() < 0.5:
                assert client.receive()
            client.vanish()

    def cancel_by_delete(self, chance: random.Random) -> None:
        """Somebody's request ends by DELETE: its client is answered all the same."""
        with RawClient(self.server.port, PATIENCE_S) as client:
            body = {**SMOLLM2, "prompt": f"Noise {chance.random()}", "stream": False}
            client.post("/api/generate", body, "X-Corral-Priority: background\r\n")
            for row in self.server.request("GET", "/api/requests")["requests"]:
                if row["priority"] == "background":
                    self._expect({200, 404}, "DELETE", f"/api/requests/{row['id']}", None)
            answer = client.receive_answer()
            assert b" 200 OK" in answer or b"request canceled" in answer, answer

    def embed(self, chance: random.Random) -> None:
        """Two vectors."""
        body = {"model": "vectors", "input": [f"a {chance.random()}", "b"]}
        assert len(self.server.post("/api/embed", body, PATIENCE_S)["embeddings"]) == 2

    def unload(self, chance: random.Random) -> None:
        """A model has to go and will be loaded again."""
        answer = self.server.post(
            "/api/generate", {"model": chance.choice(("smollm2", "tiny")), "keep_alive": 0}, PATIENCE_S
        )
        assert answer["done_reason"] == "unload"

    def pull_and_delete(self, chance: random.Random) -> None:
        """A model comes and goes; two clients may do that to the same one at once."""
        name = f"{self.registry_host}/library/small:{chance.randrange(3)}"
        lines = list(self.server.stream("/api/pull", {"model": name, "insecure": True}, PATIENCE_S))
        assert lines[-1].get("status") == "success" or "error" in lines[-1], lines[-1]
        self._expect({200, 404}, "DELETE", "/api/delete", {"model": name})

    def bad_request(self, chance: random.Random) -> None:
        """Something that must be refused."""
        method, path, body, statuses = chance.choice(
            (
                ("POST", "/api/generate", {"model": "nobody", "prompt": "x"}, {404}),
                (
                    "POST",
                    "/api/chat",
                    {"model": "tiny", "messages": [{"role": "user"}], "options": {"top_k": "x"}},
                    {400},
                ),
                ("POST", "/api/embed", {"model": "nobody", "input": "x"}, {404}),
                ("POST", "/v1/chat/completions", {"model": "tiny", "messages": []}, {400}),
                ("DELETE", "/api/requests/nothing", None, {404}),
                ("GET", "/nothing", None, {404}),
            )
        )
        self._expect(statuses, method, path, body)

    def look(self, chance: random.Random) -> None:
        """The lists and the metrics."""
        for path in ("/api/ps", "/api/tags", "/api/requests", "/metrics", "/api/version"):
            assert self.server.request("GET", path, timeout_s=10)

    def _expect(self, statuses: set[int], method: str, path: str, body: Any) -> None:
        try:
            self.server.request(method, path, body)
            status = 200
        except urllib.error.HTTPError as error:
            with error:
                status = error.code
        assert status in statuses, f"{method} {path}: {status}"


@pytest.fixture
def server(tmp_path: Path, small_store: Path) -> Iterator[ServerProcess]:
    with (
        tempfile.TemporaryDirectory(prefix="cr") as runtime,
        servers(tmp_path, small_store, Path(runtime)) as start,
    ):
        yield start(NUM_PARALLEL=2, KEEP_ALIVE="10s", MAX_LOADED_MODELS=2)
        assert not [path for path in Path(runtime).glob("*/*") if path.suffix == ".sock"]


async def test_mixed_load_leaves_the_server_as_it_was(server: ServerProcess, tmp_path: Path) -> None:
    async with FakeRegistry().serve() as registry:
        publish(registry, tmp_path)
        add_vectors(server, tmp_path)
        load = Load(server, registry.host)
        samples = await asyncio.to_thread(run, load, server)
    until(lambda: not server.request("GET", "/api/requests")["requests"], 10, "no request left behind")
    print(json.dumps({"done": load.done, "samples_mib": [round(size / 2**20, 1) for size, _ in samples]}))
    assert load.lost == [], "\n".join([*load.lost, *server.log])
    assert sum(load.done.values()) > DURATION_S / 2
    assert set(load.done) == set(load.actions), "some action never came up"
    quarter = len(samples) // 4
    assert_flat("memory", [size for size, _ in samples], quarter, SLACK_BYTES)
    until(lambda: not children(server.pid), 40, "idle models to go")
    assert open_files(server.pid) <= min(files for _, files in samples) + 4
    assert fsck_findings(server) <= HARMLESS
    assert server.stop() == 0


def run(load: Load, server: ServerProcess) -> list[tuple[int, int]]:
    """The load, sampled; (memory in bytes, open files) at even intervals."""
    deadline = time.monotonic() + DURATION_S
    workers = [threading.Thread(target=load.work, args=(seed, deadline), daemon=True) for seed in range(WORKERS)]
    for worker in workers:
        worker.start()
    samples: list[tuple[int, int]] = []
    seen: set[int] = set()
    while time.monotonic() < deadline:
        time.sleep(DURATION_S / SAMPLES)
        assert server.process.poll() is None, server.log[-20:]
        seen |= children(server.pid)
        samples.append((resident_bytes(server.pid), open_files(server.pid)))
    for worker in workers:
        worker.join(300)
    assert not [worker for worker in workers if worker.is_alive()], "a request never ended"
    left = seen - children(server.pid)
    assert not [pid for pid in left if is_alive(pid)], "a runner outlived its model"
    return samples


def assert_flat(what: str, values: list[int], quarter: int, slack: int) -> None:
    """The last quarter is about as high as the second; the first warms up."""
    early, late = statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])
    assert late <= early * GROWTH + slack, f"{what} grew from {early} to {late}: {values}"


def publish(registry: FakeRegistry, folder: Path) -> None:
    """Three small models to pull."""
    for number in range(3):
        weights = tiny_llama(folder / f"small{number}.gguf", seed=number + 50).read_bytes()
        registry.add_model("library/small", str(number), {media.MODEL: weights}, json.dumps({"n": number}).encode())


def add_vectors(server: ServerProcess, folder: Path) -> None:
    """An embedding model."""
    weights = tiny_llama(folder / "vectors.gguf", seed=77, metadata={"llama.pooling_type": 1})
    add_model(ModelStore(server.models), "vectors", weights)


def fsck_findings(server: ServerProcess) -> set[Any]:
    """The kinds of problems in the store."""
    return {finding.problem for finding in fsck(ModelStore(server.models)).findings}
