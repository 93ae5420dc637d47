"""Where everybody who waits stands, for whoever asks, and for those who want to be told while they wait."""

from __future__ import annotations

import math
from collections.abc import Callable

from corral.sched.estimate import Estimates, Place, line_up
from corral.sched.events import Action, Notify
from corral.sched.fairness import FairQueue
from corral.sched.fleet import Fleet
from corral.sched.state import Runner, Waiter

_FEW_LISTENERS = 64
_TELL_EVERY_S = 1.0  # where more listen


class Places:
    """Positions and estimated waits."""

    def __init__(self, queue: FairQueue, fleet: Fleet, estimates: Estimates, act: Callable[[Action], None]) -> None:
        self._queue = queue
        self._fleet = fleet
        self._estimates = estimates
        self._act = act
        self._told_at = -math.inf

    def line(self, now: float) -> list[Place]:
        """Every waiting request with its position among those of its model and its estimated wait."""
        return line_up(self._queue, self._served_by, self._estimates, now)

    def wait_s(self, waiter: Waiter, now: float) -> float:
        """Until the first of this request's line is served."""
        runner, slots = self._served_by(waiter)
        return self._estimates.wait_s(waiter.want.key, 0, runner, now, slots)

    def tell(self, now: float) -> None:
        """Tell those who listen what has changed for them; many of them no more than once in a while."""
        listening = self._queue.listening
        if not listening or (listening > _FEW_LISTENERS and now < self._told_at + _TELL_EVERY_S):
            return
        self._told_at = now
        for place in self.line(now):
            waiter = place.waiter
            told = (place.progress.stage, place.progress.position, place.progress.processed)
            if waiter.want.on_progress is not None and waiter.told != told:
                waiter.told = told
                self._act(Notify(waiter.id, place.progress))

    def next_telling(self) -> float | None:
        """When those who listen are to be told at the latest; None = as things change."""
        return self._told_at + _TELL_EVERY_S if self._queue.listening > _FEW_LISTENERS else None

    def _served_by(self, waiter: Waiter) -> tuple[Runner | None, int]:
        assert waiter.line is not None
        stock = self._fleet.of(waiter.want.key)
        return stock.any_for(waiter.line), stock.ready_and_loading(waiter.line)[2]
