"""`InFlight`: one job per key, however many callers wait for it: downloads, uploads, translations.

A caller that leaves never stops the others; when the last one leaves, the job is cancelled and has ended by the time
the caller is gone, so that nothing runs unowned.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from corral.errors import RequestCanceled

K = TypeVar("K")
PROGRESS_EVERY_S = 0.06  # Ollama's interval


class Job(Protocol):
    """A transfer that knows how far it is."""

    @property
    def completed(self) -> int:
        """Bytes so far."""
        ...

    async def run(self) -> None:
        """Do it, once."""
        ...


@dataclass(slots=True)
class _Running:
    job: Job
    task: asyncio.Task[None]
    waiters: int = 0
    is_leaving: bool = False


class InFlight(Generic[K]):
    """The running jobs of one kind; `close` cancels them all."""

    def __init__(self, interval_s: float = PROGRESS_EVERY_S) -> None:
        self._interval_s = interval_s
        self._running: dict[K, _Running] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._running

    async def follow(self, key: K, make: Callable[[], Job]) -> AsyncGenerator[int, None]:
        """Join the job of this key, or start the one that `make` gives; its progress until it is done.

        Raises what the job raises. Close the iterator to leave.
        """
        while (running := self._running.get(key)) and running.is_leaving:
            await asyncio.wait({running.task})
        if running is None:
            running = self._start(key, make())
        running.waiters += 1
        try:
            while not running.task.done():
                yield running.job.completed
                await asyncio.wait({running.task}, timeout=self._interval_s)
            if running.task.cancelled():
                raise RequestCanceled("the transfer was stopped: the server is shutting down")
            running.task.result()
        finally:
            running.waiters -= 1
            if running.waiters == 0 and not running.task.done():
                await _end(running)

    async def close(self) -> None:
        """Cancel all jobs and wait for their ends."""
        await asyncio.gather(*(_end(running) for running in list(self._running.values())))

    def _start(self, key: K, job: Job) -> _Running:
        running = _Running(job, asyncio.create_task(job.run()))
        self._running[key] = running
        running.task.add_done_callback(lambda task: self._forget(key, task))
        return running

    def _forget(self, key: K, task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # every waiter that is left raises it; without one nobody needs to hear of it


async def _end(running: _Running) -> None:
    """Cancel the job and wait for its end, however often the caller is cancelled meanwhile."""
    running.is_leaving = True
    running.task.cancel()
    cancelled = False
    while not running.task.done():
        try:
            await asyncio.wait({running.task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
