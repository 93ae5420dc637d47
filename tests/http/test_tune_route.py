"""POST /api/tune and the idle measurement: lines, refusals, and that a request ends it at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.runner import FakeLauncher
from tests.fakes.server import RunningServer

from corral.runner.candidates import Tuning
from corral.runner.hostload import HostLoad
from corral.runner.spec import RunnerSpec
from corral.runner.tune import Trial
from corral.sched.hostmemory import HostMemory
from corral.server import tuning
from corral.server.tuning import TuningService


class Load(HostLoad):
    """Busy as told."""

    busy = False

    async def is_busy(self) -> bool:
        return self.busy


class Measuring(FakeLauncher):
    """Measures as told: `steps` trials, then `chosen`; waits for `gate` after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.host_load = Load()
        self.measured: list[RunnerSpec] = []
        self.began = asyncio.Event()
        self.gate = asyncio.Event()
        self.ended = asyncio.Event()

    def is_tuned(self, spec: RunnerSpec) -> bool:
        return self.ended.is_set() and spec in self.measured

    async def measure(self, spec: RunnerSpec, budget_s: float = 0.0, host_bytes: int = 0) -> AsyncIterator[Trial]:
        self.measured.append(spec)
        yield Trial(Tuning(2))
        self.began.set()
        await self.gate.wait()
        self.ended.set()
        yield Trial(Tuning(1, decode_per_s=30.0, read_per_s=90.0), chosen=True)


def serving(server: RunningServer, launcher: object) -> TuningService:
    """Put a service on this launcher in place of the server's, which cannot measure."""
    service = TuningService(launcher, server.deps.scheduler, server.deps.inference)
    object.__setattr__(server.deps, "tuning", service)
    return service


async def test_each_trial_is_a_line_and_success_the_last(server: RunningServer) -> None:
    launcher = Measuring()
    launcher.gate.set()
    serving(server, launcher)
    lines = await server.lines("/api/tune", {"model": "go"})
    assert [line["status"] for line in lines] == [
        "measuring: 2 threads",
        "chosen: 1 threads, reads 90 and answers 30.0 tokens/s",
        "success",
    ]
    assert launcher.measured[0].model_path.exists()


async def test_a_measurement_on_a_busy_host_says_so_first(server: RunningServer) -> None:
    launcher = Measuring()
    launcher.gate.set()
    launcher.host_load.busy = True
    serving(server, launcher)
    lines = await server.lines("/api/tune", {"model": "go"})
    assert lines[0]["status"] == "the host is busy: the result may not hold when it is not"


async def test_what_cannot_be_measured_is_refused_with_a_status(server: RunningServer) -> None:
    status, answer = await server.post("/api/tune", {"model": "go"})
    assert (status, answer["error"]) == (400, "go cannot be measured: it generates no text here")
    serving(server, Measuring())
    assert (await server.post("/api/tune", {"model": "vectors"}))[0] == 400
    assert (await server.post("/api/tune", {"model": "absent"}))[0] == 404
    assert (await server.post("/api/tune", {}))[0] == 400


async def test_a_second_copy_that_does_not_fit_is_refused(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 500 kB\n")
    service = TuningService(Measuring(), server.deps.scheduler, server.deps.inference, HostMemory(tmp_path))
    object.__setattr__(server.deps, "tuning", service)
    status, answer = await server.post("/api/tune", {"model": "go"})
    assert status == 500
    assert "a second time" in answer["error"]


async def until_measuring(server: RunningServer, launcher: Measuring) -> asyncio.Task[Any]:
    await server.post("/api/generate", {"model": "go", "prompt": "x"})
    await server.until_idle()
    task = asyncio.create_task(serving(server, launcher).run_when_idle())
    async with asyncio.timeout(30):
        await launcher.began.wait()
    return task


async def test_an_idle_server_measures_a_loaded_model_once(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "IDLE_S", 0.01)
    launcher = Measuring()
    launcher.gate.set()
    task = await until_measuring(server, launcher)
    await asyncio.sleep(0.1)  # some more turns of the loop, in which nothing may happen
    assert len(launcher.measured) == 1
    task.cancel()


async def test_a_request_ends_an_idle_measurement_at_once(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "IDLE_S", 0.01)
    launcher = Measuring()
    task = await until_measuring(server, launcher)
    monkeypatch.setattr(tuning, "IDLE_S", 60.0)
    status, _ = await server.post("/api/generate", {"model": "go", "prompt": "x"})
    assert status == 200
    assert not launcher.ended.is_set()
    assert not server.deps.tuning._one.locked()
    task.cancel()


async def test_a_busy_host_is_not_measured(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "IDLE_S", 0.01)
    launcher = Measuring()
    launcher.host_load.busy = True
    await server.post("/api/generate", {"model": "go", "prompt": "x"})
    task = asyncio.create_task(serving(server, launcher).run_when_idle())
    await asyncio.sleep(0.1)
    assert launcher.measured == []
    task.cancel()
