"""The scheduler's time: the event loop's, or a test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that has not run yet."""

    def cancel(self) -> None:
        """Do not run it."""
        ...


class Clock(Protocol):
    """A monotonic clock that can wake somebody."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once `now()` has reached `when`."""
        ...


class LoopClock:
    """The running event loop's time."""

    def now(self) -> float:
        """Seconds of `loop.time()`."""
        return asyncio.get_running_loop().time()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """`loop.call_at`."""
        return asyncio.get_running_loop().call_at(when, callback)
