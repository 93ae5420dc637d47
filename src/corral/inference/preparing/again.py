"""Asking once more when a runner turns out to have died while nobody used it. Called by every use case.

Its death is noticed milliseconds after it, and a request may be granted it in between. Nothing has been answered then,
and a fresh runner can serve the same request; nothing else is ever asked twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar, cast

from corral.core import Event
from corral.errors import RunnerGone

T = TypeVar("T")


async def again(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives; it is called a second time when the first met a dead runner."""
    try:
        return await work()
    except RunnerGone:
        return await work()


async def events_again(work: Callable[[], AsyncIterator[Event]]) -> AsyncIterator[Event]:
    """The same for a stream. RunnerGone comes before its first event, so none is told twice."""
    for is_last in (False, True):
        try:
            async with aclosing(cast("Any", work())) as events:
                async for event in events:
                    yield event
            return
        except RunnerGone:
            if is_last:
                raise
