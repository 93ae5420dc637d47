"""The calls to a runner that are in flight, as its watchdog wants to know them. Kept by client.py. Pure."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Call:
    """One call. started, moved: by the monotonic clock; moved = when a part of its answer came, 0 = none has yet."""

    started: float
    size_bytes: int = 0  # of the request
    seeks_slot: bool = True  # is given one once it has been read; others are answered by who reads them
    on_slot: bool = False  # saves or restores a slot: waits for it, and keeps all others waiting
    moved: float = 0.0


class Calls:
    """All calls in flight, oldest first. on_busy is called when the first begins."""

    def __init__(self) -> None:
        self.on_busy: Callable[[], None] | None = None
        self.last_progress = time.monotonic()  # when any of them began alone or moved
        self._open: dict[Call, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    @contextlib.contextmanager
    def add(self, call: Call) -> Iterator[Call]:
        """The call is in flight within the block."""
        self._open[call] = None
        if len(self._open) == 1:
            self.last_progress = time.monotonic()
            if self.on_busy is not None:
                self.on_busy()
        try:
            yield call
        finally:
            del self._open[call]

    def move(self, call: Call) -> None:
        """A part of its answer has come: the head, an event, the whole."""
        call.moved = self.last_progress = time.monotonic()

    @property
    def oldest_unanswered(self) -> Call | None:
        """What waits longest for the first of its answer; None while a slot is saved or restored, which takes long."""
        waiting = [call for call in self._open if not call.moved]
        return None if not waiting or any(call.on_slot for call in waiting) else waiting[0]

    def wanting(self, since: float) -> int:
        """How many are due a slot: those that seek one, without an answer, or with one that has moved since then.

        The others may have all of their answer on the way to a client that reads slowly, and no slot any more.
        """
        return sum(call.seeks_slot and (not call.moved or call.moved >= since) for call in self._open)
