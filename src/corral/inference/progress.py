"""Progress while a request waits: one stream of what the scheduler reports and of what the run yields.

Called by service.py for requests with `progress: true` only; the others pay nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any, cast

from corral.core import Event, Progress

Emit = Callable[[Progress], None]
_END = object()
_WAITING = 256  # events between run and reader; beyond it the run waits, and progress is skipped


async def with_progress(make: Callable[[Emit], AsyncIterator[Event]]) -> AsyncIterator[Event]:
    """The events of `make(emit)`, with what it emits in between. Closing cancels the run and waits for its end."""
    queue: asyncio.Queue[Any] = asyncio.Queue(_WAITING)

    def emit(progress: Progress) -> None:
        if queue.qsize() < _WAITING // 2:
            queue.put_nowait(progress)

    async def run() -> None:
        async with aclosing(cast("Any", make(emit))) as events:
            async for event in events:
                await queue.put(event)
        await queue.put(_END)

    task = asyncio.create_task(run())
    task.add_done_callback(lambda done: _wake(queue))
    try:
        while True:
            event = await queue.get()
            if event is _END:
                break
            yield event
            if task.done() and queue.empty():
                break
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(task, return_exceptions=True)


def _wake(queue: asyncio.Queue[Any]) -> None:
    """A run that failed left no end mark: make sure that the reader looks."""
    with suppress(asyncio.QueueFull):
        queue.put_nowait(_END)
