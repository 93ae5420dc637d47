"""In which order waiting requests are served: start-time fair queueing between clients, priority classes. Pure.

Every client has a count of turns. A client that starts to wait begins at the highest count anyone was granted at, and
each grant adds one; the lowest goes first, ties by arrival. So a client with one request waits for at most one turn of
each other client, however many requests they have queued, and nobody who waits can be passed for ever by newcomers.
Interactive requests go before background ones, until those have waited for `Limits.background_patience_s`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from corral.sched.lines import Kind, Line
from corral.sched.state import Limits, Waiter


class FairQueue:
    """The waiting requests, and the turns their clients have had."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiters: dict[str, Waiter] = {}  # in order of arrival
        self._lines: dict[str, dict[Kind, Line]] = {}  # by model
        self._turns: dict[str, int] = {}  # of clients that wait
        self._waiting: Counter[str] = Counter()  # requests by client
        self._clock = 0  # the highest count that was granted
        self._batches: dict[Line, None] = {}  # the lines of batches' requests
        self.persons = 0  # requests that are no lines of batches
        self.listening = 0  # requests that want to be told of their place

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._waiters.values()))

    def __repr__(self) -> str:
        return f"FairQueue({list(self._waiters)}, turns={self._turns}, clock={self._clock})"

    def get(self, request_id: str) -> Waiter | None:
        """The waiter of this id, if it waits."""
        return self._waiters.get(request_id)

    def add(self, waiter: Waiter, now: float) -> Line:
        """Append a request; the line it is in."""
        self._waiters[waiter.id] = waiter
        self._waiting[waiter.client] += 1
        self.persons += not waiter.gives_way
        self.listening += waiter.want.on_progress is not None
        turns = self._turns.setdefault(waiter.client, self._clock)
        kind = Kind.of(waiter)
        lines = self._lines.setdefault(kind.key, {})
        line = lines.get(kind)
        if line is None:
            line = lines[kind] = Line(kind, waiter)
            if kind.gives_way:
                self._batches[line] = None
        waiter.line = line
        line.add(waiter, turns, background=waiter.is_background(now, self._limits))
        return line

    def remove(self, request_id: str) -> Waiter | None:
        """Take a request out without a turn: it left or failed."""
        waiter = self._waiters.pop(request_id, None)
        if waiter is not None:
            self._forget(waiter)
        return waiter

    def take(self, request_id: str) -> Waiter:
        """Take a request out because it is served; its client is charged a turn."""
        waiter = self._waiters.pop(request_id)
        self._turns[waiter.client] += 1
        self._clock = max(self._clock, self._turns[waiter.client])
        self._forget(waiter)
        return waiter

    def age(self, waiter: Waiter) -> None:
        """A background request counts as interactive from now on."""
        assert waiter.line is not None
        waiter.line.age(waiter, self._turns[waiter.client])

    def _forget(self, waiter: Waiter) -> None:
        """A client without requests keeps nothing: it would begin at the clock, which is no lower than its count."""
        self.persons -= not waiter.gives_way
        self.listening -= waiter.want.on_progress is not None
        self._waiting[waiter.client] -= 1
        if not self._waiting[waiter.client]:
            del self._waiting[waiter.client], self._turns[waiter.client]
        line = waiter.line
        assert line is not None
        line.remove(waiter)
        if not len(line):
            lines = self._lines[line.key]
            del lines[line.kind]
            self._batches.pop(line, None)
            if not lines:
                del self._lines[line.key]

    # ---- lines

    def lines_of(self, key: str) -> Sequence[Line]:
        """The lines of one model."""
        return tuple(self._lines.get(key, {}).values())

    def lines(self) -> Iterator[Line]:
        """All lines."""
        for lines in tuple(self._lines.values()):
            yield from tuple(lines.values())

    def batches(self) -> Sequence[Line]:
        """The lines in which requests of batches are."""
        return tuple(self._batches)

    def next_of(self, lines: Iterable[Line]) -> Waiter | None:
        """Who of these lines is to be served next."""
        heads = [head for line in lines if (head := line.next(self._turns)) is not None]
        return min(heads, key=lambda head: head[:3])[3] if heads else None

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
