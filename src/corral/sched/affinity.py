"""Which runner has read the beginning of a prompt: of several of a model, that one is asked before others. Pure.

A request brings names of its beginnings, the longest first (LeaseRequest.prefixes). Whoever is granted a runner leaves
them there; the next request with one of them goes to the same runner if that has a free slot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

from corral.sched.fleet import Fleet
from corral.sched.state import Runner, Waiter

_MOST = 65536


class Affinity:
    """The beginnings that were read last, and where."""

    def __init__(self) -> None:
        self._runners: OrderedDict[tuple[str, str], int] = OrderedDict()  # (model, beginning) -> runner

    def __len__(self) -> int:
        return len(self._runners)

    def note(self, waiter: Waiter, runner: Runner) -> None:
        """A runner reads this request's prompt."""
        for prefix in waiter.want.prefixes:
            place = (waiter.want.key, prefix)
            self._runners[place] = runner.id
            self._runners.move_to_end(place)
        while len(self._runners) > _MOST:
            self._runners.popitem(last=False)

    def find(self, waiter: Waiter, fleet: Fleet, without: Collection[int]) -> Runner | None:
        """The runner that has read most of this prompt and can take the request now."""
        assert waiter.line is not None
        for prefix in waiter.want.prefixes:
            runner = fleet.by_id.get(self._runners.get((waiter.want.key, prefix), 0))
            if runner is not None and fleet.of(runner.key).takes(runner, waiter.line, without):
                return runner
        return None
