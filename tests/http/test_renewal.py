"""Loading anew while idle: when it is due, and that it happens to the right runner."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.fakes.runner import FakeLauncher
from tests.fakes.server import RunningServer

from corral.runner.hostload import HostLoad
from corral.runner.spec import RunnerSpec
from corral.sched import LoadedModel
from corral.server import renewal
from corral.server.renewal import Renewal, is_due

ROW = LoadedModel(
    "a", "a", "", {}, "ready", 1, 0, 4096, datetime.now(UTC), 4, 0, load_s=2.0, age_s=100.0, idle_s=6.0
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "due"),
    [
        (ROW, True),
        (replace(ROW, state="loading"), False),
        (replace(ROW, active=1), False),
        (replace(ROW, idle_s=4.0), False),  # a person may be reading the answer
        (replace(ROW, idle_s=6.0, load_s=7.0, age_s=1e6), False),
        (replace(ROW, age_s=59.0), False),  # loading must stay a small part of its time
    ],
)
def test_a_load_anew_is_due_when_it_costs_nobody_anything(row: LoadedModel, due: bool) -> None:
    assert is_due(row) is due


class Following(FakeLauncher):
    """Outdated as told."""

    def __init__(self) -> None:
        super().__init__()
        self.host_load = HostLoad()
        self.stale: set[Path] = set()
        self.asked: list[tuple[RunnerSpec, RunnerSpec]] = []

    def outdated(self, spec: RunnerSpec, launched: RunnerSpec) -> bool:
        self.asked.append((spec, launched))
        return spec.model_path in self.stale


async def test_an_outdated_runner_is_loaded_anew_and_no_other(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SAMPLE_S", "IDLE_S", "_LOADS_OF_AGE"):
        monkeypatch.setattr(renewal, name, 0.01)
    for model in ("go", "vectors"):
        await server.post("/api/embed" if model == "vectors" else "/api/generate", {"model": model, "input": "x"})
    await server.until_idle()
    scheduler = server.deps.scheduler
    before = {row.name: row.runner_id for row in scheduler.loaded()}
    assert len(before) == 2
    launcher = Following()
    task = asyncio.create_task(Renewal(launcher, scheduler).run())
    while not launcher.asked:
        await asyncio.sleep(0.01)
    go = next(row for row in scheduler.loaded() if row.name.startswith("go"))
    assert go.spec is not None
    launcher.stale.add(go.spec.model_path)
    async with asyncio.timeout(30):
        while not any(row.name == go.name and row.runner_id > go.runner_id for row in scheduler.loaded()):
            await asyncio.sleep(0.01)
    task.cancel()
    after = {row.name: row.runner_id for row in scheduler.loaded()}
    assert {name for name in before if after.get(name) != before[name]} == {go.name}


async def test_the_host_is_watched_while_requests_are_served_and_only_then(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "SAMPLE_S", 0.01)
    launcher, calls = Following(), list[str]()
    monkeypatch.setattr(launcher.host_load, "sample", lambda: calls.append("sample"))
    monkeypatch.setattr(launcher.host_load, "pause", lambda: calls.append("pause"))
    task = asyncio.create_task(Renewal(launcher, server.deps.scheduler).run())
    await asyncio.sleep(0.1)
    assert calls == ["pause"]
    server.engine.gate = asyncio.Event()
    request = asyncio.create_task(server.post("/api/generate", {"model": "go", "prompt": "x"}))
    async with asyncio.timeout(30):
        while calls.count("sample") < 3:
            await asyncio.sleep(0.01)
    server.engine.gate.set()
    await request
    await server.until_idle()
    async with asyncio.timeout(30):
        while calls[-1] != "pause":
            await asyncio.sleep(0.01)
    task.cancel()
