"""When the policy has to be woken: moments at which something may be due. Pure; owned by policy.py.

A moment is noted for a request (it becomes overdue, or its background patience ends) or for a runner (its keep_alive
runs out, it has had its turn, it may be evicted). Those of what is gone are forgotten as they come to the front.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Literal

Of = Literal["request", "runner"]


class Timers:
    """The moments, earliest first. exists: whether what a moment was noted for is still there."""

    def __init__(self, exists: Callable[[Of, str | int], bool]) -> None:
        self._exists = exists
        self._heap: list[tuple[float, int, Of, str | int]] = []
        self._count = 0

    def note(self, when: float, of: Of, name: str | int) -> None:
        """At `when`, look at this again."""
        if when != float("inf"):
            self._count += 1
            heapq.heappush(self._heap, (when, self._count, of, name))

    def due(self, now: float) -> list[tuple[Of, str | int]]:
        """What has to be looked at now; each moment is given once."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            _, _, of, name = heapq.heappop(self._heap)
            if self._exists(of, name):
                found.append((of, name))
        return found

    def next(self) -> float | None:
        """The next moment; None = there is none."""
        while self._heap and not self._exists(self._heap[0][2], self._heap[0][3]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
