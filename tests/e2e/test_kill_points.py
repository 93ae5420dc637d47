"""`kill -9` at sixty points of pull, push, create, copy, delete and translate: nothing is lost, the store is sound."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import tiny_llama
from tests.fakes.library import GOLDEN, KitModel
from tests.fakes.registry import FakeRegistry
from tests.fakes.stores import add_model

from corral.runner.enginefiles import EngineFiles
from corral.server.translation import files_of
from corral.store import ModelStore
from corral.store import manifests as media
from corral.store.care import HARMLESS, fsck, prune_at_start
from corral.store.files import TEMP_PREFIX

pytestmark = pytest.mark.e2e

SEED = 20260823
KILLS = 10  # of each operation
BLOB_BYTES = 2 * 2**20
ROOT = Path(__file__).resolve().parents[2]


class Operator:
    """The process that does the work; see tests/fakes/operations.py."""

    def __init__(self, process: asyncio.subprocess.Process, models: Path) -> None:
        self._process = process
        self._models = models

    async def run(self, task: Mapping[str, str], kill_after_s: float | None = None) -> tuple[int, float]:
        """One operation, killed after so long; its exit status (-9: it was killed in time) and how long it took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**task, "models": str(self._models)}).encode() + b"\n")
        facts = await self._hear() | await self._hear()  # `begin` and `pid`, in either order
        began = time.perf_counter()
        if kill_after_s is not None:
            await asyncio.sleep(kill_after_s)
            os.kill(facts["pid"], signal.SIGKILL)
        facts |= await self._hear()
        return facts["end"], time.perf_counter() - began

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Scene:
    """A store with an earlier model, a registry, and the process that works on the one with the other."""

    store: ModelStore
    registry: FakeRegistry
    operator: Operator
    earlier: bytes
    gguf: Path
    random: random.Random

    def check(self, *, swept: bool = False) -> None:
        """The store is healthy, the earlier model is what it was; after a sweep no temp file is left either."""
        report = fsck(self.store)
        assert {finding.problem for finding in report.findings} <= HARMLESS, report.findings
        assert self.store.manifests.read(self.store.resolve("keep")).raw == self.earlier
        assert self.store.load(self.store.resolve("keep")).weights is not None
        if swept:
            assert not [finding for finding in report.findings if TEMP_PREFIX in finding.file]
            assert not [found for found in self.store.derived.files() if found.is_partial]

    def prepare(self, operation: str, number: int) -> dict[str, str]:
        """Make an operation possible that has never been done before; returns the task."""
        name = f"{operation}:{number}"
        if operation == "pull":
            weights, text = self.gguf_like(number).read_bytes(), self.random.randbytes(BLOB_BYTES // 2).hex()
            layers = {media.MODEL: weights, media.LICENSE: text.encode(), media.SYSTEM: name.encode()}
            self.registry.add_model("library/pull", str(number), layers, json.dumps({"n": number}).encode())
            name = f"{self.registry.host}/library/pull:{number}"
        elif operation == "push":
            name = f"{self.registry.host}/me/push:{number}"
            add_model(self.store, name, self.gguf_like(number), texts={"system": name})
        elif operation == "copy":
            return {"operation": operation, "name": "keep", "target": f"copies/copy:{number}"}
        elif operation == "translate":
            add_model(self.store, name, self.monolith_like(number))
        elif operation == "delete":
            add_model(self.store, name, self.gguf_like(number), texts={"system": name})
        return {"operation": operation, "name": name, "gguf": str(self.gguf_like(number))}

    def monolith_like(self, number: int) -> Path:
        """A vision model in one of Ollama's layouts that nobody has seen yet."""
        path = self.gguf.with_name(f"monolith-{number}.gguf")
        path.write_bytes(KitModel(GOLDEN, "gemma3-vision-q4").weights.read_bytes() + number.to_bytes(32, "big"))
        return path

    def gguf_like(self, number: int) -> Path:
        """Weights nobody has seen yet."""
        path = self.gguf.with_name(f"{number}.gguf")
        if not path.exists():
            tiny_llama(path, seed=number, width=128)
        return path


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    store = ModelStore(tmp_path / "models")
    gguf = tiny_llama(tmp_path / "keep.gguf", seed=1000)
    earlier = store.manifests.read(add_model(store, "keep", gguf, texts={"system": "earlier"})).raw
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fakes.operations",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    async with FakeRegistry().serve() as registry:
        yield Scene(store, registry, Operator(process, store.root), earlier, gguf, random.Random(SEED))
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


@pytest.mark.parametrize("operation", ["pull", "push", "create", "copy", "delete", "translate"])
async def test_a_kill_at_any_point_loses_nothing(scene: Scene, operation: str) -> None:
    runs = [await scene.operator.run(scene.prepare(operation, 100 + number)) for number in range(4)]
    assert {status for status, _ in runs} == {0}
    took_s = min(seconds for _, seconds in runs[1:])  # the first warms caches up; others may have had to wait
    killed = 0
    for number in range(KILLS):
        task = scene.prepare(operation, number)
        moment = took_s * (number + scene.random.random()) / KILLS
        status, _ = await scene.operator.run(task, moment)
        killed += status == -signal.SIGKILL
        scene.check()
        check_published(scene.registry)
        if operation != "delete" or status != 0:
            await assert_repeatable(scene, task)
    assert killed >= KILLS // 3, "the kills came too late to prove anything"
    prune_at_start(scene.store)
    scene.check(swept=True)


async def assert_repeatable(scene: Scene, task: dict[str, str]) -> None:
    """The next try ends what the killed one began; a delete may have nothing left to do."""
    status, _ = await scene.operator.run(task)
    if task["operation"] == "delete":
        names = {name.short for name in scene.store.manifests.names()}
        assert task["name"] not in names
        return
    assert status == 0
    name = task.get("target") or task["name"]
    model = scene.store.load(scene.store.resolve(name))
    assert model.size_bytes > 0
    if task["operation"] == "translate":
        assert all(scene.store.derived.find(order) for order in EngineFiles(scene.store).orders_of(files_of(model)))
    scene.check()


def check_published(registry: FakeRegistry) -> None:
    """What the registry shows is whole."""
    for raw in registry.manifests.values():
        manifest = json.loads(raw)
        assert {layer["digest"] for layer in [manifest["config"], *manifest["layers"]]} <= set(registry.blobs)
