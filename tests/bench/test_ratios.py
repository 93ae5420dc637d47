"""Speed as ratios within one run. Nothing else may run beside these: `make bench`.

Each figure is measured several times, alternating, and compared by its best or median, because the machines are noisy.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.bench.contenders import SocketConnection
from tests.e2e.conftest import ServerProcess, create_golden_models, start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

MODEL = "smollm2:135m"
COUNT = "Count: " + ", ".join(str(i) for i in range(1, 40)) + ","


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("bench")
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    server = start_server(folder, env={"CORRAL_TUNE": "off", "CORRAL_THREADS": "0", "XDG_RUNTIME_DIR": str(runtime)})
    create_golden_models(server, models_dir)
    yield server
    server.stop()


def runner_socket(server: ServerProcess) -> Path:
    (path,) = (server.home.parent / "run").rglob("*.sock")
    return path


def api_rate(server: ServerProcess, tokens: int) -> float:
    """Tokens per second of a stream through /api/generate, first to last token."""
    options = {"temperature": 0, "seed": 1, "num_predict": tokens, "num_ctx": 4096}
    times = [time.perf_counter() for line in server.stream("/api/generate", raw_prompt(options)) if line["response"]]
    return (len(times) - 1) / (times[-1] - times[0])


def raw_prompt(options: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "prompt": COUNT, "raw": True, "options": options}


def engine_rate(path: Path, tokens: int) -> float:
    """The same straight from the runner's /completion."""
    connection = SocketConnection(path)
    body = {"prompt": COUNT, "n_predict": tokens, "temperature": 0, "seed": 1, "stream": True, "cache_prompt": True}
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    times = []
    while line := response.readline():
        if line.startswith(b"data: ") and json.loads(line[6:]).get("content"):
            times.append(time.perf_counter())
    connection.close()
    return (len(times) - 1) / (times[-1] - times[0])


def test_the_api_costs_less_than_five_percent_of_decoding(measured: ServerProcess) -> None:
    api_rate(measured, 16)
    path = runner_socket(measured)
    pairs = [(api_rate(measured, 128), engine_rate(path, 128)) for _ in range(5)]
    share = max(api for api, _ in pairs) / max(engine for _, engine in pairs)
    print(
        f"\ndecode through the API / straight from the runner: {share:.3f} (pairs {[f'{a / b:.3f}' for a, b in pairs]})"
    )
    assert share >= 0.95


TOKENS = 128


def ask(server: ServerProcess) -> None:
    options = {"temperature": 0, "seed": 1, "num_predict": TOKENS, "num_ctx": 1024}
    assert server.post("/api/generate", raw_prompt(options))["eval_count"] == TOKENS


def ask_engine(path: Path) -> None:
    connection = SocketConnection(path)
    body = {"prompt": COUNT, "n_predict": TOKENS, "temperature": 0, "seed": 1, "stream": True, "cache_prompt": True}
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    connection.getresponse().read()
    connection.close()


def total_rate(ask: Callable[[], None]) -> float:
    """Tokens per second of eight clients together."""
    threads = [threading.Thread(target=ask) for _ in range(8)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 8 * TOKENS / (time.perf_counter() - start)


def total_ratio(one: Callable[[], None], other: Callable[[], None], pairs: int) -> float:
    """Median of total rates in pairs, each first in every other one."""
    ratios = []
    for number in range(pairs):
        if number % 2:
            rate = total_rate(other)
            ratios.append(total_rate(one) / rate)
        else:
            ratios.append(total_rate(one) / total_rate(other))
    return statistics.median(ratios)


@pytest.fixture
def by_slots(tmp_path: Path, models_dir: Path) -> Iterator[dict[str, ServerProcess]]:
    """A server with the automatic number of slots and one with a single slot, each with its model."""
    servers = {}
    try:
        for slots in ("0", "1"):
            folder = tmp_path / slots
            (folder / "run").mkdir(mode=0o700, parents=True)
            env = {"CORRAL_TUNE": "off", "CORRAL_THREADS": "0", "XDG_RUNTIME_DIR": str(folder / "run")}
            servers[slots] = start_server(folder, env={"CORRAL_NUM_PARALLEL": slots, **env})
            create_golden_models(servers[slots], models_dir, MODEL)
            total_rate(partial(ask, servers[slots]))  # the prompts are in the cache then
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def test_eight_clients_get_what_the_engine_gives(by_slots: dict[str, ServerProcess]) -> None:
    path = runner_socket(by_slots["0"])
    automatic = partial(ask, by_slots["0"])
    against_one = total_ratio(automatic, partial(ask, by_slots["1"]), 4)
    against_engine = total_ratio(automatic, partial(ask_engine, path), 12)
    print(f"\n8 clients: slots / one slot {against_one:.2f}, API / straight from the runner {against_engine:.2f}")
    assert against_engine >= 0.97


def test_an_idle_server_is_small_and_starts_quickly(tmp_path: Path) -> None:
    took = []
    for number in range(3):
        start = time.perf_counter()
        server = start_server(tmp_path / str(number))
        took.append(time.perf_counter() - start)
        status = Path(f"/proc/{server.pid}/status").read_text()
        resident = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
        server.stop()
    print(f"\nidle server: {resident / 1024:.0f} MiB resident, answers after {statistics.median(took):.2f} s")
    assert resident * 1024 <= 80e6
