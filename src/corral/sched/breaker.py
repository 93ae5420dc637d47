"""A circuit breaker per model: after several failed loads or crashes in a row, requests fail at once. Pure.

closed --N failures within the window--> open --cooldown--> half-open --a failure--> open, with twice the cooldown
                                                            half-open --a request served--> closed
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from corral.errors import CorralError, RunnerFailedToStart
from corral.sched.state import Limits


@dataclass(slots=True)
class _Circuit:
    failures: deque[float] = field(default_factory=deque)
    open_until: float = 0.0
    cooldown_s: float = 0.0  # 0 = closed
    last_lines: tuple[str, ...] = ()


class Breakers:
    """The circuits of all models that failed lately."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._circuits: dict[str, _Circuit] = {}

    def record_failure(self, key: str, error: CorralError, now: float) -> None:
        """A load failed, or a runner died with requests on it."""
        self._prune(now)
        circuit = self._circuits.setdefault(key, _Circuit())
        circuit.failures.append(now)
        circuit.last_lines = tuple(getattr(error, "last_lines", ())) or (str(error),)
        if circuit.cooldown_s:
            circuit.cooldown_s = min(2 * circuit.cooldown_s, self._limits.breaker_cooldown_max_s)
        elif len(circuit.failures) >= self._limits.breaker_failures:
            circuit.cooldown_s = self._limits.breaker_cooldown_s
        circuit.open_until = now + circuit.cooldown_s

    def record_success(self, key: str) -> None:
        """A request was served: a half-open circuit closes."""
        circuit = self._circuits.get(key)
        if circuit is not None and circuit.cooldown_s:
            del self._circuits[key]

    def refusal(self, key: str, now: float) -> RunnerFailedToStart | None:
        """The error for a request while the circuit is open, with the runner's last words."""
        circuit = self._circuits.get(key)
        if circuit is None or not circuit.cooldown_s or now >= circuit.open_until:
            return None
        wait_s = max(1, round(circuit.open_until - now))
        reason = f"the model runner failed {len(circuit.failures)} times in a row; next try in {wait_s} s"
        return RunnerFailedToStart(reason, circuit.last_lines)

    def _prune(self, now: float) -> None:
        for key, circuit in list(self._circuits.items()):
            while circuit.failures and now - circuit.failures[0] > self._limits.breaker_window_s:
                circuit.failures.popleft()
            if not circuit.failures and now - circuit.open_until > self._limits.breaker_cooldown_max_s:
                del self._circuits[key]
