"""The host's first reading: it delays no start, the first load waits for it, and GPUs found change limits and plans."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model
from tests.unit.sched.fake_launcher import FakeLauncher, settle
from tests.unit.sched.world import want

from corral.config import Settings
from corral.runner.devices import Device
from corral.sched import Scheduler
from corral.sched.hostmemory import HostMemory
from corral.sched.plan import plan
from corral.store import ModelStore

GIB = 2**30
CARD = Device("CUDA0", "a card", 24 * GIB, 24 * GIB)


class Cards:
    """Answers once it is let, and counts."""

    def __init__(self, *cards: Device) -> None:
        self.cards = cards
        self.let = threading.Event()
        self.asked = 0

    def read(self) -> tuple[Device, ...]:
        self.asked += 1
        assert self.let.wait(10)
        return self.cards


@asynccontextmanager
async def surveying(cards: Cards, launcher: FakeLauncher) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(Settings(), launcher, host_memory=HostMemory(devices=cards.read))
    await scheduler.start()
    try:
        yield scheduler
    finally:
        cards.let.set()
        await scheduler.close()


async def test_a_slow_driver_delays_the_first_load_and_not_the_start() -> None:
    cards, launcher = Cards(CARD), FakeLauncher()
    async with surveying(cards, launcher) as scheduler:
        holder = asyncio.create_task(scheduler.lease(want("a")).__aenter__())
        await settle()
        assert launcher.handles == []
        assert scheduler.loaded() == []
        waiting = asyncio.create_task(scheduler.figures())
        cards.let.set()
        assert len((await waiting).devices) == 1
        await holder
        assert len(launcher.handles) == 1
        assert cards.asked >= 1
        holder.cancel()


async def test_gpus_change_what_is_planned(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    facts = {"llama.block_count": 2, "llama.context_length": 65536, "llama.embedding_length": 64}
    model = store.load(add_model(store, "m", make_gguf(tmp_path / "m.gguf", "llama", facts)))
    specs = []
    for found in ((), (CARD,)):
        cards = Cards(*found)
        cards.let.set()
        async with surveying(cards, FakeLauncher()) as scheduler:
            specs.append(plan(model, {}, Settings(speculation="off"), await scheduler.figures()).spec)
    cpu, gpu = specs
    assert (cpu.context_window, cpu.n_batch, cpu.paced) == (4096, 512, True)
    assert (gpu.context_window, gpu.n_batch, gpu.paced) == (32768, 2048, False)
    assert replace(gpu, context_window=4096, n_batch=512, use_mmap=cpu.use_mmap, paced=True) == cpu


async def test_three_models_a_gpu_may_be_loaded() -> None:
    cards = Cards(CARD, CARD)
    cards.let.set()
    async with surveying(cards, FakeLauncher()) as scheduler:
        await scheduler.figures()
        assert scheduler._policy.limits.max_loaded == 6


async def test_ps_shows_what_the_engine_says_lies_on_the_gpu() -> None:
    cards, launcher = Cards(CARD), FakeLauncher()
    cards.let.set()
    async with surveying(cards, launcher) as scheduler, scheduler.lease(want("a")):
        info = launcher.handles[0].info
        launcher.handles[0].info = replace(info, memory=replace(info.memory, device_bytes=650))
        (row,) = scheduler.loaded()
        assert (row.size_bytes, row.size_vram_bytes, row.memory["vram"]) == (1000, 650, 650)
