"""The scheduler: leases in every phase of cancellation. Fake runners, fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.sched.fake_launcher import Client, FakeClock, FakeLauncher, running_scheduler, settle, slow_started
from tests.unit.sched.world import want

from corral.errors import (
    RequestCanceled,
)
from corral.sched import Lease


async def test_a_lease_loads_the_model_and_gives_the_client_of_its_runner(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler, scheduler.lease(want("a", parallel=2)) as lease:
        launcher.handles[0].fake_client.answer.set()
        assert await lease.runner.tokenize("x") == [1, 2, 3]
        assert lease.spec.num_parallel == 2
        assert lease.context_window == 4096


async def test_load_duration_counts_from_the_request_to_the_grant(slow: FakeLauncher) -> None:
    clock = FakeClock()
    async with running_scheduler(slow, clock=clock) as scheduler:
        client = Client(scheduler, want("a"))
        await slow_started(slow)
        await clock.advance(1.5)
        slow.handles[0].get_ready()
        await client.holding.wait()
        assert client.lease.load_duration_ns == 1_500_000_000
        await client.leave()


async def test_cancelled_while_queued_leaves_the_queue(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        holder = Client(scheduler, want("a"))
        await holder.holding.wait()
        waiter = Client(scheduler, want("a"))
        await settle()
        waiter.task.cancel()
        await settle()
        assert [row.state for row in scheduler.requests()] == ["running"]
        await holder.leave()
        assert scheduler.requests() == []


async def test_cancelled_while_loading_gives_the_load_up_and_reaps_it(slow: FakeLauncher) -> None:
    async with running_scheduler(slow) as scheduler:
        client = Client(scheduler, want("a"))
        await slow_started(slow)
        client.task.cancel()
        await settle()
        assert slow.handles[0].calls == ["start", "stop"]
        assert scheduler.loaded() == []


async def test_cancelled_in_the_tick_of_its_grant_leaks_no_slot(slow: FakeLauncher) -> None:
    async with running_scheduler(slow) as scheduler:
        first = Client(scheduler, want("a"))
        await slow_started(slow)
        slow.handles[0].get_ready()
        for _ in range(50):  # at every point between the runner's readiness and the holder's first step
            await asyncio.sleep(0)
            if scheduler.requests()[0].state == "running":
                break
        assert not first.holding.is_set()
        first.task.cancel()
        await settle()
        second = Client(scheduler, want("a"))
        await second.holding.wait()
        assert len(slow.handles) == 1
        await second.leave()


async def test_cancelled_while_holding_gives_the_slot_back(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        holder = Client(scheduler, want("a"))
        await holder.holding.wait()
        waiter = Client(scheduler, want("a"))
        await settle()
        holder.task.cancel()
        await waiter.holding.wait()
        await waiter.leave()


async def test_an_error_in_the_body_gives_the_slot_back_and_stays_the_error(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        with pytest.raises(KeyError):
            async with scheduler.lease(want("a")):
                raise KeyError("mine")
        await settle()
        assert scheduler.loaded()[0].active == 0


async def test_leaving_closes_the_streams_that_the_holder_left_open(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        async with scheduler.lease(want("a")) as lease:
            client = launcher.handles[0].fake_client
            client.events.put_nowait({"content": "x"})
            stream = lease.runner.completion({})
            assert await anext(stream) == {"content": "x"}
            assert client.open_streams == 1
        assert client.open_streams == 0


async def test_cancel_by_id_while_queued_raises_in_the_waiter(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        holder = Client(scheduler, want("a"))
        await holder.holding.wait()
        waiter = Client(scheduler, want("a"))
        await settle()
        queued = next(row for row in scheduler.requests() if row.state == "queued")
        assert scheduler.cancel(queued.id)
        with pytest.raises(RequestCanceled):
            await waiter.task
        assert not scheduler.cancel("nobody")
        await holder.leave()


async def test_cancel_by_id_ends_the_call_under_way_and_no_other_task(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler, scheduler.lease(want("a")) as lease:
        stream = lease.runner.completion({})
        reader = asyncio.create_task(anext(stream))  # another task than the one that took the lease
        await settle()
        assert scheduler.cancel(lease.id)
        with pytest.raises(RequestCanceled):
            await reader
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        with pytest.raises(RequestCanceled):
            await lease.runner.tokenize("x")


async def test_cancel_by_id_between_two_calls_ends_the_next_one(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler, scheduler.lease(want("a")) as lease:
        scheduler.cancel(lease.id)
        await settle()
        with pytest.raises(RequestCanceled):
            await lease.runner.tokenize("x")


async def test_a_client_that_leaves_while_cancelled_by_id_stays_cancelled(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:

        async def hold() -> None:
            async with scheduler.lease(want("a", request_id="mine")) as lease:
                await lease.runner.tokenize("x")

        task = asyncio.create_task(hold())
        while not launcher.handles or not scheduler.requests() or scheduler.requests()[0].state != "running":
            await asyncio.sleep(0)
        await settle()
        scheduler.cancel("mine")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_lease_inside_an_async_generator_ends_with_aclose_from_another_task(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:

        async def events() -> AsyncIterator[Lease]:
            async with scheduler.lease(want("a")) as lease:
                while True:
                    yield lease

        generator: Any = events()
        await anext(generator)
        await asyncio.create_task(generator.aclose())
        await settle()
        assert scheduler.loaded()[0].active == 0
