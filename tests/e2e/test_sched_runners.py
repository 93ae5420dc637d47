"""The scheduler over real runners: two models, swap, crash while serving, eight at once, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.stores import add_model

from corral.config import Settings
from corral.core import Caller
from corral.errors import RequestCanceled, RunnerDied, RunnerFailedToStart
from corral.runner.launch import LocalLauncher
from corral.sched import LeaseRequest, Scheduler
from corral.sched.plan import plan
from corral.store import ModelStore
from corral.store.model import Model

pytestmark = pytest.mark.e2e


class House:
    """A store with two models, and a scheduler over real runners."""

    def __init__(self, scheduler: Scheduler, settings: Settings, models: dict[str, Model]) -> None:
        self.scheduler = scheduler
        self.settings = settings
        self.models = models

    def want(self, name: str, client: str = "", keep_alive_s: float | None = None, **options: Any) -> LeaseRequest:
        """What inference/ would ask for."""
        model = self.models[name]
        launch = plan(model, {"num_ctx": 512, **options}, self.settings, self.scheduler.host)
        return LeaseRequest(
            key=str(model.weights),
            name=model.name.short,
            digest=model.digest,
            spec=launch.spec,
            automatic=launch.automatic,
            keep_alive_s=keep_alive_s,
            caller=Caller(client),
            memory=launch.memory,
        )

    async def complete(self, want: LeaseRequest, tokens: int = 8) -> int:
        """The number of tokens that the engine made for a request of its own."""
        async with self.scheduler.lease(want) as lease:
            last: dict[str, Any] = {}
            body = {"prompt": f"Once upon a time, {want.caller.client}", "n_predict": tokens, "ignore_eos": True}
            async for event in lease.runner.completion(body):
                last = event
            return int(last["tokens_predicted"])

    def pids(self) -> set[int]:
        """The processes of the loaded models."""
        return {row.pid for row in self.scheduler.loaded() if row.pid}


@contextlib.asynccontextmanager
async def open_house(tmp_path: Path, models_dir: Path, **settings: Any) -> AsyncIterator[House]:
    config = Settings(home=tmp_path / "home", models=tmp_path / "models", **settings)
    store = ModelStore(config.models)
    models = {name: store.load(add_model(store, name, models_dir / f"{name}.gguf")) for name in ("smollm2", "gemma3")}
    launcher = LocalLauncher(config)
    scheduler = Scheduler(config, launcher)
    await scheduler.start()
    await scheduler.figures()
    house = House(scheduler, config, models)
    try:
        yield house
    finally:
        left = house.pids()
        await scheduler.close()
        launcher.close()
        assert not [pid for pid in left if Path(f"/proc/{pid}").exists()], "a runner outlived its scheduler"


async def test_two_models_share_the_host_and_one_place_is_swapped(tmp_path: Path, models_dir: Path) -> None:
    async with open_house(tmp_path, models_dir, max_loaded_models=1) as house:
        wants = [house.want(name, client=f"{name}{n}") for n in range(3) for name in ("smollm2", "gemma3")]
        assert await asyncio.gather(*(house.complete(want) for want in wants)) == [8] * 6
        assert len(house.scheduler.loaded()) == 1
        assert house.scheduler.requests() == []


async def test_eight_at_once_are_all_served_by_one_runner(tmp_path: Path, models_dir: Path) -> None:
    async with open_house(tmp_path, models_dir) as house:
        done = await asyncio.gather(*(house.complete(house.want("smollm2", client=str(n))) for n in range(8)))
        assert done == [8] * 8
        (row,) = house.scheduler.loaded()
        assert row.slots == 4
        assert row.context_window == 512


async def test_the_estimate_is_near_what_the_engine_measured(tmp_path: Path, models_dir: Path) -> None:
    async with open_house(tmp_path, models_dir) as house:
        for name in ("smollm2", "gemma3"):
            want = house.want(name, num_ctx=4096)
            await house.complete(want)
            measured = next(row for row in house.scheduler.loaded() if row.name.startswith(name)).memory
            need = want.memory
            print(name, measured, need, need.weights_bytes, need.kv_cache_bytes, need.compute_bytes, need.needed_bytes)
            assert measured["weights"] == pytest.approx(need.weights_bytes, rel=0.35)
            assert measured["kv_cache"] == pytest.approx(need.kv_cache_bytes, rel=0.25)
            assert int(measured["rss"]) <= need.needed_bytes * 1.5


async def test_a_killed_runner_is_replaced_for_those_who_wait(tmp_path: Path, models_dir: Path) -> None:
    async with open_house(tmp_path, models_dir, num_parallel=1) as house:
        async with house.scheduler.lease(house.want("smollm2", client="served")) as lease:
            stream = lease.runner.completion({"prompt": "Tell me a long story.", "n_predict": 400, "ignore_eos": True})
            await anext(stream)
            waiter = asyncio.create_task(house.complete(house.want("smollm2", client="waiting")))
            while len(house.scheduler.requests()) < 2:
                await asyncio.sleep(0)
            (pid,) = house.pids()
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(RunnerDied):
                async for _ in stream:
                    pass
            await house.scheduler.report_failure(lease, RunnerDied())
        assert await waiter == 8
        assert pid not in house.pids()


async def test_cancel_by_id_ends_a_running_generation_and_the_slot_serves_the_next(
    tmp_path: Path, models_dir: Path
) -> None:
    async with open_house(tmp_path, models_dir, num_parallel=1) as house:
        async with house.scheduler.lease(house.want("smollm2")) as lease:
            stream = lease.runner.completion({"prompt": "Count to a thousand.", "n_predict": 2000, "ignore_eos": True})
            await anext(stream)
            assert house.scheduler.cancel(lease.id)
            with pytest.raises(RequestCanceled):
                async for _ in stream:
                    pass
        assert await house.complete(house.want("smollm2")) == 8


async def test_unload_and_keep_alive_zero_end_the_process(tmp_path: Path, models_dir: Path) -> None:
    async with open_house(tmp_path, models_dir) as house:
        await house.complete(house.want("smollm2"))
        (pid,) = house.pids()
        await house.scheduler.unload(str(house.models["smollm2"].weights))
        async with asyncio.timeout(20):
            while house.scheduler.loaded():
                await asyncio.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists()


async def test_a_file_that_is_no_model_fails_at_once_with_the_engines_words(tmp_path: Path, models_dir: Path) -> None:
    async with open_house(tmp_path, models_dir) as house:
        weights = house.models["gemma3"].weights
        assert weights is not None
        want = house.want("gemma3")
        weights.unlink()
        weights.write_bytes(b"GGUF" + b"\0" * 100)
        for _ in range(2):
            with pytest.raises(RunnerFailedToStart) as raised:
                await house.complete(want)
            assert raised.value.last_lines
        assert house.scheduler.loaded() == []
        assert await house.complete(house.want("smollm2")) == 8
