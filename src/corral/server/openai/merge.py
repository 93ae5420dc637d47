"""Several answers to one request (`n`, prompt lists) as one stream of `(index, event)`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, cast

from corral.core import Event

_QUEUE_LENGTH = 64  # events; a reader that stops reading stops the engines' reading
Indexed = tuple[int, Event]


async def merge(streams: Sequence[AsyncIterator[Event]]) -> AsyncIterator[Indexed]:
    """Events of all streams as they come. The first error ends all; closing the iterator closes every stream."""
    if len(streams) == 1:
        async with aclosing(cast("Any", streams[0])) as events:
            async for event in events:
                yield 0, event
        return
    queue: asyncio.Queue[Indexed | BaseException | None] = asyncio.Queue(_QUEUE_LENGTH)
    tasks = [asyncio.create_task(_forward(index, stream, queue)) for index, stream in enumerate(streams)]
    running = len(tasks)
    try:
        while running:
            item = await queue.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(index: int, stream: AsyncIterator[Event], queue: asyncio.Queue[Any]) -> None:
    try:
        async with aclosing(cast("Any", stream)) as events:
            async for event in events:
                await queue.put((index, event))
    except Exception as error:  # noqa: BLE001  handed to the reader, which raises it
        await queue.put(error)
    else:
        await queue.put(None)
