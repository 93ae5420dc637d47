"""In which order waiting requests are served: start-time fair queueing between clients, priority classes. Pure.

Every client has a count of turns. A client that starts to wait begins at the highest count anyone was granted at, and
each grant adds one; the lowest goes first, ties by arrival. So a client with one request waits for at most one turn of
each other client, however many requests they have queued, and nobody who waits can be passed for ever by newcomers.
Interactive requests go before background ones, until those have waited for `Limits.background_patience_s`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from corral.sched.state import Limits, Waiter


class FairQueue:
    """The waiting requests, and the turns their clients have had."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiters: dict[str, Waiter] = {}  # in order of arrival
        self._turns: dict[str, int] = {}  # of clients that wait
        self._clock = 0  # the highest count that was granted

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._waiters.values()))

    def __repr__(self) -> str:
        return f"FairQueue({list(self._waiters)}, turns={self._turns}, clock={self._clock})"

    def get(self, request_id: str) -> Waiter | None:
        """The waiter of this id, if it waits."""
        return self._waiters.get(request_id)

    def add(self, waiter: Waiter) -> None:
        """Append a request."""
        self._waiters[waiter.id] = waiter
        self._turns.setdefault(waiter.client, self._clock)

    def remove(self, request_id: str) -> Waiter | None:
        """Take a request out without a turn: it left or failed."""
        waiter = self._waiters.pop(request_id, None)
        if waiter is not None:
            self._forget(waiter.client)
        return waiter

    def take(self, request_id: str) -> Waiter:
        """Take a request out because it is served; its client is charged a turn."""
        waiter = self._waiters.pop(request_id)
        self._turns[waiter.client] += 1
        self._clock = max(self._clock, self._turns[waiter.client])
        self._forget(waiter.client)
        return waiter

    def _forget(self, client: str) -> None:
        """A client without requests keeps nothing: it would begin at the clock, which is no lower than its count."""
        if not any(waiter.client == client for waiter in self._waiters.values()):
            self._turns.pop(client, None)

    def order(self, waiters: Iterable[Waiter], now: float) -> list[Waiter]:
        """These waiters in the order in which they would be served if all were served from now on."""
        ahead: Counter[str] = Counter()
        keyed: list[tuple[tuple[bool, int, float], Waiter]] = []
        for waiter in sorted(waiters, key=lambda item: (item.is_background(now, self._limits), item.arrived)):
            turn = self._turns[waiter.client] + ahead[waiter.client]
            ahead[waiter.client] += 1
            keyed.append(((waiter.is_background(now, self._limits), turn, waiter.arrived), waiter))
        keyed.sort(key=lambda item: item[0])
        return [waiter for _, waiter in keyed]
