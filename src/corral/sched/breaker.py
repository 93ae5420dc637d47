"""A circuit breaker per launch: after several failed loads or crashes in a row, requests fail at once. Pure.

closed --N failures within the window--> open --cooldown--> half-open --a failure--> open, with twice the cooldown
                                                            half-open --a request served--> closed

What the failures have in common is refused, and nothing else: the launch (a model with the settings that a client
asked for), and of its clients those who were served at every crash, if there are such. A failed load is nobody's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from corral.errors import CorralError, RunnerFailedToStart
from corral.sched.state import Launch, Limits

Clients = frozenset[str] | None  # None = whoever


@dataclass(slots=True)
class _Failure:
    at: float
    clients: Clients


@dataclass(slots=True)
class _Circuit:
    failures: deque[_Failure] = field(default_factory=deque)
    open_until: float = 0.0
    cooldown_s: float = 0.0  # 0 = closed
    last_lines: tuple[str, ...] = ()
    suspects: Clients = None  # those of the failures that opened it, as long as they are the same

    def concerns(self, client: str) -> bool:
        """Whether a request of this client is like those that failed."""
        return self.suspects is None or client in self.suspects


class Breakers:
    """The circuits of all launches that failed lately."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._circuits: dict[Launch, _Circuit] = {}

    def knows(self, launch: Launch) -> bool:
        """Whether it failed lately."""
        return launch in self._circuits

    @property
    def are_closed(self) -> bool:
        """Whether nothing is refused."""
        return not self._circuits

    def record_failure(self, launch: Launch, error: CorralError, now: float, clients: Clients = None) -> None:
        """A load failed, or a runner died with requests of these clients on it."""
        self._prune(now)
        circuit = self._circuits.setdefault(launch, _Circuit())
        circuit.failures.append(_Failure(now, clients))
        circuit.last_lines = tuple(getattr(error, "last_lines", ())) or (str(error),)
        if circuit.cooldown_s:
            circuit.suspects = _common([circuit.suspects, clients])
            circuit.cooldown_s = min(2 * circuit.cooldown_s, self._limits.breaker_cooldown_max_s)
        elif len(circuit.failures) >= self._limits.breaker_failures:
            circuit.suspects = _common([failure.clients for failure in circuit.failures])
            circuit.cooldown_s = self._limits.breaker_cooldown_s
        circuit.open_until = now + circuit.cooldown_s

    def record_success(self, launch: Launch, client: str, now: float) -> None:
        """A request was served: a half-open circuit closes, if it was one that would have been refused before."""
        circuit = self._circuits.get(launch)
        if circuit is not None and circuit.cooldown_s and circuit.concerns(client) and now >= circuit.open_until:
            del self._circuits[launch]

    def refusal(self, launch: Launch, client: str, now: float) -> RunnerFailedToStart | None:
        """The error for a request while the circuit is open, with the runner's last words."""
        circuit = self._circuits.get(launch) if self._circuits else None
        if circuit is None or not circuit.cooldown_s or now >= circuit.open_until or not circuit.concerns(client):
            return None
        wait_s = max(1, round(circuit.open_until - now))
        reason = f"the model runner failed {len(circuit.failures)} times in a row; next try in {wait_s} s"
        return RunnerFailedToStart(reason, circuit.last_lines)

    def _prune(self, now: float) -> None:
        for launch, circuit in list(self._circuits.items()):
            while circuit.failures and now - circuit.failures[0].at > self._limits.breaker_window_s:
                circuit.failures.popleft()
            if not circuit.failures and now - circuit.open_until > self._limits.breaker_cooldown_max_s:
                del self._circuits[launch]


def _common(each: list[Clients]) -> Clients:
    """The clients that were there every time; None when none was, which leaves the launch itself."""
    named = [clients for clients in each if clients is not None]
    if len(named) < len(each):
        return None
    return frozenset.intersection(*named) or None
