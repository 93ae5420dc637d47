"""How long waiting requests will wait: running means of load and serving times, and everyone's place in line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corral.core import Progress
from corral.sched.fairness import FairQueue
from corral.sched.state import Runner, Waiter

_FIRST_LOAD_S = 3.0  # until a model's own times are known
_FIRST_SERVICE_S = 5.0
_WEIGHT = 0.3  # of the newest time in the mean
_MOST_MODELS = 256


class Estimates:
    """Running means per model; forgets the models unused for longest."""

    def __init__(self) -> None:
        self._loads: dict[str, float] = {}
        self._services: dict[str, float] = {}

    def loaded(self, key: str, seconds: float) -> None:
        """A load took so long."""
        _mean(self._loads, key, seconds)

    def served(self, key: str, seconds: float) -> None:
        """A lease was held so long."""
        _mean(self._services, key, seconds)

    def load_left_s(self, key: str, runner: Runner | None, now: float) -> float:
        """Until the model's runner is ready."""
        if runner is not None and runner.state == "ready":
            return 0.0
        elapsed = 0.0 if runner is None else now - runner.load_started
        return max(0.0, self._loads.get(key, _FIRST_LOAD_S) - elapsed)

    def round_s(self, key: str) -> float:
        """How long a lease of this model is held."""
        return self._services.get(key, _FIRST_SERVICE_S)

    def wait_s(self, key: str, ahead: int, runner: Runner | None, now: float, slots: int = 0) -> float:
        """Until a request with so many before it is granted. slots: of all its runners, if it has several."""
        slots = slots or (1 if runner is None else runner.slots)
        rounds = (ahead + 1) / slots if runner is not None and runner.state == "ready" else ahead // slots
        return self.load_left_s(key, runner, now) + rounds * self.round_s(key)


def _mean(means: dict[str, float], key: str, seconds: float) -> None:
    old = means.pop(key, seconds)
    means[key] = old + _WEIGHT * (seconds - old)
    if len(means) > _MOST_MODELS:
        del means[next(iter(means))]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a waiting request stands: position from 1 among the requests for its model."""

    waiter: Waiter
    progress: Progress


def line_up(
    queue: FairQueue, suitable: Callable[[Waiter], tuple[Runner | None, int]], estimates: Estimates, now: float
) -> list[Place]:
    """All waiting requests, model by model, in the order in which they will be served.

    suitable: a runner for a request, and the slots of all that are ready.
    """
    models: dict[str, list[Waiter]] = {}
    for waiter in queue:
        models.setdefault(waiter.want.key, []).append(waiter)
    return [
        place for waiters in models.values() for place in _places(queue.order(waiters, now), suitable, estimates, now)
    ]


def _places(
    ordered: Sequence[Waiter],
    suitable: Callable[[Waiter], tuple[Runner | None, int]],
    estimates: Estimates,
    now: float,
) -> list[Place]:
    places = []
    for ahead, waiter in enumerate(ordered):
        runner, slots = suitable(waiter)
        wait_s = round(estimates.wait_s(waiter.want.key, ahead, runner, now, slots), 1)
        progress = Progress("queued", ahead + 1, wait_s)
        if runner is not None and runner.state == "loading" and ahead < runner.slots:
            processed, total = runner.translating
            progress = Progress("translating" if total else "loading", ahead + 1, wait_s, processed, total)
        places.append(Place(waiter, progress))
    return places
