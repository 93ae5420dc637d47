"""The runners of one model, filed so that the one for the next request is found without a look at all of them. Pure.

Runners that requests see no difference between have one shape: spec, automatic fields and planned window. By shape,
the ready ones are filed by how many slots they have free. fleet.py files a runner anew when anything of it changes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

from corral.sched.lines import Line
from corral.sched.reload import needs_reload
from corral.sched.state import Runner

_LOOK = 32  # runners of one kind and load that are asked whether they take a request


class _Shelf:
    """The usable runners of one shape."""

    def __init__(self, sample: Runner) -> None:
        self.spec = sample.spec
        self.automatic = sample.automatic
        self.planned_window = sample.planned_window
        self.loading: dict[int, Runner] = {}
        self.ready: dict[int, Runner] = {}
        self.slots = 0  # of the ready ones
        self.by_free: dict[int, dict[int, Runner]] = {}  # ready ones with so many free slots; no empty ones
        self.filed: dict[int, tuple[int, int]] = {}  # runner -> (slots, free) as counted above

    def __len__(self) -> int:
        return len(self.loading) + len(self.ready)

    def file(self, runner: Runner) -> None:
        self.unfile(runner)
        if runner.state == "loading":
            self.loading[runner.id] = runner
        else:
            free = runner.free_slots
            self.ready[runner.id] = runner
            self.slots += runner.slots
            self.filed[runner.id] = (runner.slots, free)
            if free:
                self.by_free.setdefault(free, {})[runner.id] = runner

    def unfile(self, runner: Runner) -> None:
        self.loading.pop(runner.id, None)
        if self.ready.pop(runner.id, None) is not None:
            slots, free = self.filed.pop(runner.id)
            self.slots -= slots
            if free:
                del self.by_free[free][runner.id]
                if not self.by_free[free]:
                    del self.by_free[free]

    def suits(self, line: Line) -> bool:
        kind = line.kind
        asks = needs_reload(self.spec, self.automatic, kind.spec, kind.automatic)
        return not asks and self.planned_window >= kind.least_window


class Stock:
    """All runners of one model, those that are stopping too."""

    def __init__(self) -> None:
        self.runners: dict[int, Runner] = {}
        self.grown_at = -math.inf  # when it was last found to need one more
        self._shapes: dict[Any, int] = {}
        self._shelves: dict[int, _Shelf] = {}
        self._members: Counter[int] = Counter()  # runners by shape

    def file(self, runner: Runner, new_shape: Iterator[int]) -> None:
        """Put a runner where it belongs now."""
        if runner.id not in self.runners:
            self.runners[runner.id] = runner
            look = (runner.spec, runner.automatic, runner.planned_window)
            if look not in self._shapes:
                self._shapes[look] = next(new_shape)
            runner.shape = self._shapes[look]
            self._shelves.setdefault(runner.shape, _Shelf(runner))
            self._members[runner.shape] += 1
        shelf = self._shelves[runner.shape]
        if runner.state == "stopping" or runner.leaving:
            shelf.unfile(runner)
        else:
            shelf.file(runner)

    def remove(self, runner: Runner) -> None:
        """It is gone."""
        del self.runners[runner.id]
        self._shelves[runner.shape].unfile(runner)
        self._members[runner.shape] -= 1
        if not self._members[runner.shape]:
            del self._members[runner.shape], self._shelves[runner.shape]
            self._shapes = {look: shape for look, shape in self._shapes.items() if shape != runner.shape}

    def suits(self, runner: Runner, line: Line) -> bool:
        """Whether this runner's model and settings are what the line's requests need."""
        if runner.shape not in line.suits:
            line.suits[runner.shape] = self._shelves[runner.shape].suits(line)
        return line.suits[runner.shape]

    def takes(self, runner: Runner, line: Line, without: Collection[int]) -> bool:
        """Whether this runner can take a request of the line now; `without`: ids of those that may not."""
        usable = runner.free_slots > 0 and not runner.leaving and _takes(runner, line, without)
        return usable and self.suits(runner, line)

    def houses(self, line: Line) -> bool:
        """Whether a runner, ready or loading, can serve these requests."""
        return any(True for shelf in self._of(line) if len(shelf))

    def ready_and_loading(self, line: Line) -> tuple[int, int, int]:
        """How many runners for these requests are ready and how many loading, and the slots of the ready ones."""
        shelves = list(self._of(line))
        ready, loading = sum(len(shelf.ready) for shelf in shelves), sum(len(shelf.loading) for shelf in shelves)
        return ready, loading, sum(shelf.slots for shelf in shelves)

    def loading_for(self, line: Line) -> Iterator[Runner]:
        """Those that are loading and suit."""
        for shelf in self._of(line):
            yield from shelf.loading.values()

    def loading(self) -> Iterator[Runner]:
        """Those that are loading."""
        for shelf in self._shelves.values():
            yield from shelf.loading.values()

    def any_for(self, line: Line) -> Runner | None:
        """One that suits: free, else ready, else loading."""
        free = self.free_for(line, ())
        if free is not None:
            return free
        for shelf in self._of(line):
            for runners in (shelf.ready, shelf.loading):
                if runners:
                    return next(iter(runners.values()))
        return None

    def free_for(self, line: Line, without: Collection[int]) -> Runner | None:
        """The ready one with the most free slots that may serve the line now; `without`: ids of those that may not."""
        best: Runner | None = None
        for shelf in self._of(line):
            for free in sorted(shelf.by_free, reverse=True):
                if best is not None and free <= best.free_slots:
                    break
                filed = islice(shelf.by_free[free].values(), _LOOK)
                found = next((runner for runner in filed if _takes(runner, line, without)), None)
                if found is not None:
                    best = found
                    break
        return best

    def _of(self, line: Line) -> Iterator[_Shelf]:
        for shape, shelf in self._shelves.items():
            suits = line.suits.get(shape)
            if suits is None:
                suits = line.suits[shape] = shelf.suits(line)
            if suits:
                yield shelf


def _takes(runner: Runner, line: Line, without: Collection[int]) -> bool:
    return runner.id not in without and not (line.kind.large and runner.spares_last_slot)
