from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from corral.errors import RegistryError, RequestCanceled
from corral.inflight import InFlight


class FakeJob:
    """A job that ends when told to; `ends` counts how often it was cancelled or finished."""

    def __init__(self) -> None:
        self.completed = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None
        self.runs = 0
        self.was_cancelled = False

    async def run(self) -> None:
        self.runs += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            await asyncio.sleep(0)  # cleaning up takes a moment
            raise
        if self.error:
            raise self.error


async def follow(jobs: InFlight[str], job: FakeJob) -> list[int]:
    return [completed async for completed in jobs.follow("key", lambda: job)]


async def test_all_waiters_of_a_key_share_one_job() -> None:
    jobs, job = InFlight[str](0.001), FakeJob()
    waiters = [asyncio.create_task(follow(jobs, job)) for _ in range(3)]
    await asyncio.sleep(0)
    job.go.set()
    await asyncio.gather(*waiters)
    assert job.runs == 1
    assert "key" not in jobs


async def test_an_error_reaches_every_waiter() -> None:
    jobs, job = InFlight[str](0.001), FakeJob()
    job.error = RegistryError("no")
    waiters = [asyncio.create_task(follow(jobs, job)) for _ in range(2)]
    await asyncio.sleep(0)
    job.go.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [str(result) for result in results] == ["no", "no"]


async def test_one_who_leaves_does_not_stop_the_others() -> None:
    jobs, job = InFlight[str](0.001), FakeJob()
    stays = asyncio.create_task(follow(jobs, job))
    leaves = asyncio.create_task(follow(jobs, job))
    await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert not job.was_cancelled
    job.go.set()
    await stays


async def test_the_last_one_to_leave_ends_the_job_before_he_is_gone() -> None:
    jobs, job = InFlight[str](0.001), FakeJob()
    async with aclosing(jobs.follow("key", lambda: job)) as progress:
        await anext(progress)
        await asyncio.sleep(0)
    assert job.was_cancelled
    await asyncio.sleep(0)
    assert "key" not in jobs


async def test_who_comes_while_the_job_is_ending_gets_a_new_one() -> None:
    jobs, old, new = InFlight[str](0.001), FakeJob(), FakeJob()
    progress = jobs.follow("key", lambda: old)
    await anext(progress)
    closing = asyncio.create_task(progress.aclose())
    await asyncio.sleep(0)
    new.go.set()
    await follow(jobs, new)
    await closing
    assert (old.runs, new.runs) == (1, 1)


async def test_closing_tells_the_waiters() -> None:
    jobs, job = InFlight[str](0.001), FakeJob()
    waiter = asyncio.create_task(follow(jobs, job))
    await asyncio.sleep(0)
    await jobs.close()
    with pytest.raises(RequestCanceled):
        await waiter
