"""The nodes, and which of them are worth a look for a load: of a few all, of many those that promise most. Pure.

With many nodes a decision looks at no more than about twenty: where the model's blob is, where most memory is free (or,
to pack, where the least that would do is), where runners have been idle for longest, where runners have had their turn,
and the largest of all, which alone can say that a model fits nowhere. What is free is known to the last report, less
what was started since. `placement.decide` judges each; policy.py takes the best.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from corral.sched.memory import MemoryEstimate
from corral.sched.nodes import Node
from corral.sched.state import Limits, Runner

FEW = 16  # nodes, of which all are looked at
_MOST_ALLOWED = 16  # of those that a model is kept to
_LOOK = 4  # nodes of each sort, of many
_SEARCH = 64  # that are passed over on the way to those with the blob


class _Ranked:
    """Nodes by a number."""

    def __init__(self) -> None:
        self._order: list[tuple[int, str]] = []
        self._values: dict[str, int] = {}

    def put(self, node_id: str, value: int) -> None:
        if self._values.get(node_id) != value:
            self.drop(node_id)
            self._values[node_id] = value
            insort(self._order, (value, node_id))

    def drop(self, node_id: str) -> None:
        value = self._values.pop(node_id, None)
        if value is not None:
            del self._order[bisect_left(self._order, (value, node_id))]

    def from_highest(self) -> Iterator[str]:
        for _, node_id in reversed(self._order):
            yield node_id

    def at_least(self, value: int) -> Iterator[str]:
        for _, node_id in islice(self._order, bisect_left(self._order, (value, "")), None):
            yield node_id


class Nodes(Mapping[str, Node]):
    """The nodes by id. looked_at: how many were given out as candidates so far, which tests and simulations count."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._nodes: dict[str, Node] = {}
        self._by_blob: dict[str, dict[str, None]] = {}
        self._host = _Ranked()
        self._device = _Ranked()
        self._size = _Ranked()
        self.looked_at = 0

    def __getitem__(self, node_id: str) -> Node:
        return self._nodes[node_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def are_few(self) -> bool:
        """Whether all of them can be looked at each time."""
        return len(self._nodes) <= FEW

    def add(self, node: Node) -> None:
        """One more."""
        self._nodes[node.id] = node
        self.changed(node.id, ())

    def remove(self, node_id: str) -> None:
        """It is gone."""
        self.keep_blobs(self._nodes.pop(node_id), frozenset())
        for ranked in (self._host, self._device, self._size):
            ranked.drop(node_id)

    def keep_blobs(self, node: Node, blobs: frozenset[str]) -> None:
        """What a node has in its store now."""
        for gone in node.blobs - blobs:
            self._by_blob[gone].pop(node.id, None)
            if not self._by_blob[gone]:
                del self._by_blob[gone]
        for new in blobs - node.blobs:
            self._by_blob.setdefault(new, {})[node.id] = None
        node.blobs = blobs

    def changed(self, node_id: str, runners: Iterable[Runner]) -> None:
        """Something of a node or its runners has changed; runners: all of them."""
        node = self._nodes[node_id]
        known = node.known
        host, device, count = known.available_bytes, known.device_free_bytes, 0
        for runner in runners:
            count += 1
            if runner.state == "loading" or runner.ready_at > node.figures_at:
                host -= runner.need.host_bytes
                device -= runner.need.device_bytes
            host -= runner.need.mapped_bytes
        node.free_bytes = device if known.devices else host
        takes = node.state == "up" and count < node.max_loaded
        for ranked, value, has in ((self._host, host, True), (self._device, device, bool(known.devices))):
            if takes and has:
                ranked.put(node_id, value)
            else:
                ranked.drop(node_id)
        if node.state == "up":
            self._size.put(node_id, known.total_bytes + known.device_total_bytes)
        else:
            self._size.drop(node_id)

    def candidates(
        self, blob: str, need: MemoryEstimate, allowed: frozenset[str] | None, others: Iterable[str]
    ) -> list[Node]:
        """The nodes that are up and worth a look, best first. allowed: the only ones; others: also these, of many."""
        names: Iterable[str]
        if allowed is not None:
            names = islice((name for name in sorted(allowed) if name in self._nodes), _MOST_ALLOWED)
        elif self.are_few:
            names = self._nodes
        else:
            names = self._promising(blob, need, others)
        found = [self._nodes[name] for name in dict.fromkeys(names)]
        found = [node for node in found if node.state == "up" and not node.is_suspect]
        self.looked_at += len(found)
        found.sort(key=lambda node: self._rank(node, blob))
        return found

    def _rank(self, node: Node, blob: str) -> tuple[bool, int, int]:
        if self._limits.spread:
            return blob not in node.blobs, len(node.runners), -node.free_bytes
        return blob not in node.blobs, -len(node.runners), node.free_bytes

    def _promising(self, blob: str, need: MemoryEstimate, others: Iterable[str]) -> Iterator[str]:
        on_device = need.device_bytes > 0
        ranked = self._device if on_device else self._host
        has_blob = self._by_blob.get(blob, {})
        yield from islice((name for name in islice(ranked.from_highest(), _SEARCH) if name in has_blob), _LOOK)
        yield from islice(has_blob, _LOOK)
        if self._limits.spread:
            yield from islice(ranked.from_highest(), _LOOK)
        else:
            yield from islice(ranked.at_least(need.device_bytes if on_device else need.host_bytes), _LOOK)
        yield from islice(self._host.from_highest(), 1)
        yield from islice(self._size.from_highest(), 1)
        yield from others
