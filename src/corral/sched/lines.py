"""The requests that wait, in lines of those that the same runners suit; each line knows who is next. Pure.

A request is in one `Line`, by what it asks of a runner (`Kind`). In it, each client has its requests by arrival, and a
heap holds the clients by the turns they have had (fairness.py). The heap is put right as it is looked at: turns and
arrivals of a client that waits only grow, so an entry that is out of date is too early, never too late.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from corral.runner.spec import RunnerSpec
from corral.sched.state import Waiter


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides which runners suit a request, and which free slot it may have."""

    key: str
    spec: RunnerSpec
    automatic: frozenset[str]
    least_window: int
    large: bool
    gives_way: bool  # lines of batches

    @classmethod
    def of(cls, waiter: Waiter) -> Kind:
        """Of a request."""
        want = waiter.want
        return cls(want.key, want.spec, want.automatic, want.least_window, want.large, waiter.gives_way)


class _Arrivals:
    """Requests by arrival, the background ones apart until they have aged."""

    __slots__ = ("aged", "background", "interactive")

    def __init__(self) -> None:
        self.interactive: OrderedDict[str, Waiter] = OrderedDict()
        self.aged: OrderedDict[str, Waiter] = OrderedDict()  # background ones that waited long enough
        self.background: OrderedDict[str, Waiter] = OrderedDict()

    def __len__(self) -> int:
        return len(self.interactive) + len(self.aged) + len(self.background)

    def __iter__(self) -> Iterator[Waiter]:
        for each in (self.interactive, self.aged, self.background):
            yield from each.values()

    def add(self, waiter: Waiter, *, background: bool) -> None:
        (self.background if background else self.interactive)[waiter.id] = waiter

    def remove(self, waiter: Waiter) -> None:
        for each in (self.interactive, self.aged, self.background):
            each.pop(waiter.id, None)

    def age(self, waiter: Waiter) -> None:
        del self.background[waiter.id]
        self.aged[waiter.id] = waiter

    def first(self, *, background: bool) -> Waiter | None:
        """The one that came first of its class."""
        heads = [next(iter(each.values())) for each in self._of(background) if each]
        return min(heads, key=lambda waiter: waiter.arrived, default=None)

    def _of(self, background: bool) -> tuple[OrderedDict[str, Waiter], ...]:
        return (self.background,) if background else (self.interactive, self.aged)


@dataclass(slots=True)
class _Turns:
    """The clients of one class, by turns; waiting: who has an entry."""

    heap: list[tuple[int, float, str]] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)


class Line:
    """Requests of one kind. suits: by a runner's shape (fleet.py), whether it can serve them."""

    def __init__(self, kind: Kind, sample: Waiter) -> None:
        self.kind = kind
        self.key = kind.key
        self.launch = sample.launch
        self.suits: dict[int, bool] = {}
        self._all = _Arrivals()
        self._clients: dict[str, _Arrivals] = {}
        self._turns = {False: _Turns(), True: _Turns()}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._all))

    def __repr__(self) -> str:
        return f"Line({self.key}, {[waiter.id for waiter in self._all]})"

    def add(self, waiter: Waiter, turns: int, *, background: bool) -> None:
        """Append a request of a client that has had so many turns."""
        self._all.add(waiter, background=background)
        self._clients.setdefault(waiter.client, _Arrivals()).add(waiter, background=background)
        self._enter(waiter, turns, background=background)

    def remove(self, waiter: Waiter) -> None:
        """Take a request out."""
        self._all.remove(waiter)
        own = self._clients[waiter.client]
        own.remove(waiter)
        if not own:
            del self._clients[waiter.client]

    def age(self, waiter: Waiter, turns: int) -> None:
        """A background request has waited so long that it counts as interactive."""
        waiter.aged = True
        self._all.age(waiter)
        self._clients[waiter.client].age(waiter)
        self._turns[False].entered.discard(waiter.client)  # it may come before what that client's entry stands for
        self._enter(waiter, turns, background=False)

    def first(self) -> Waiter:
        """The one that came first, background ones last. The line must not be empty."""
        first = self._all.first(background=False) or self._all.first(background=True)
        assert first is not None
        return first

    def next(self, turns: Mapping[str, int]) -> tuple[bool, int, float, Waiter] | None:
        """Who is to be served next, behind what it is compared with other lines by; None = nobody."""
        for background in (False, True):
            heap, entered = self._turns[background].heap, self._turns[background].entered
            while heap:
                entry = heap[0]
                client = entry[2]
                own = self._clients.get(client)
                head = own.first(background=background) if own else None
                if head is None:
                    heapq.heappop(heap)
                    entered.discard(client)
                    continue
                actual = (turns[client], head.arrived, client)
                if entry == actual:
                    return background, entry[0], entry[1], head
                heapq.heapreplace(heap, actual)
        return None

    def _enter(self, waiter: Waiter, turns: int, *, background: bool) -> None:
        ranks = self._turns[background]
        if waiter.client not in ranks.entered:
            ranks.entered.add(waiter.client)
            heapq.heappush(ranks.heap, (turns, waiter.arrived, waiter.client))
