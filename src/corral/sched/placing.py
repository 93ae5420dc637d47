"""Runners for waiting requests that have none, or too few: which request, which node, and what happens there. Pure.

Owned by policy.py. A line of requests (lines.py) without a usable runner is homeless. `place` asks placement.decide
for the first of each homeless model on the nodes worth a look (nodeindex.py), and follows the decision of least effort;
what an overdue request waits for is kept from smaller ones behind it. `grow` gives a model one more runner on another
node while its queue, or a batch to its end, waits longer than `Limits.replica_wait_s`; it goes again when it was idle
for a while.

With few nodes and lines all are looked at after each event. With many, an event has no more than `_HEADS` lines looked
at that are new and as many of those that wait, in turn, so that its cost does not grow with the cluster.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

from corral.errors import CorralError, NoNode
from corral.sched import placement
from corral.sched.estimate import Estimates
from corral.sched.events import Action, ReadMemory
from corral.sched.fairness import FairQueue
from corral.sched.fleet import Fleet
from corral.sched.lines import Line
from corral.sched.memory import MemoryEstimate
from corral.sched.nodeindex import Nodes
from corral.sched.nodes import Node
from corral.sched.state import Launch, Limits, Waiter

_FEW_LINES = 32  # of which all are looked at
_HEADS = 2
_GROW_EVERY_S = 0.25  # between two looks at whether a model needs one more runner; less for one that has many
_EFFORT = {
    placement.LoadNow: 0,
    placement.AskMemory: 1,
    placement.Evict: 2,
    placement.Wait: 3,
    placement.Never: 4,
}


class _Homeless:
    """Lines without a usable runner. new: those that nobody looked at, or that some rule has changed for."""

    def __init__(self) -> None:
        self.lines: OrderedDict[Line, None] = OrderedDict()
        self.new: dict[Line, None] = {}

    def add(self, line: Line) -> None:
        if line not in self.lines:
            self.lines[line] = self.new[line] = None

    def remove(self, line: Line) -> None:
        self.lines.pop(line, None)
        self.new.pop(line, None)

    def look_again(self, line: Line) -> None:
        if line in self.lines:
            self.new[line] = None

    def looked_at(self, line: Line) -> None:
        self.new.pop(line, None)
        self.lines.move_to_end(line)

    def some(self) -> list[Line]:
        return list(dict.fromkeys([*islice(self.new, _HEADS), *islice(self.lines, _HEADS)]))


class Placing:
    """Decides where runners come from; fail: ends a waiting request with an error."""

    def __init__(
        self,
        limits: Limits,
        nodes: Nodes,
        fleet: Fleet,
        queue: FairQueue,
        estimates: Estimates,
        act: Callable[[Action], None],
        fail: Callable[[Waiter, CorralError], None],
    ) -> None:
        self._limits = limits
        self._nodes = nodes
        self._fleet = fleet
        self._queue = queue
        self._estimates = estimates
        self._act = act
        self._fail = fail
        self._persons = _Homeless()
        self._batches = _Homeless()
        self._yields: dict[Line, int] = {}  # of many: runner that is to take no more requests, by the line it is for
        self._retry: dict[Launch, tuple[MemoryEstimate, str]] = {}  # smaller form, and the node where memory ran out

    # ---- what the policy tells

    def review(self, key: str) -> None:
        """The runners or lines of a model have changed."""
        stock = self._fleet.of(key)
        for line in self._queue.lines_of(key):
            if stock.houses(line):
                self._forget(line)
            else:
                self._homeless(line).add(line)

    def look_again(self, waiter: Waiter) -> None:
        """A waiting request has become overdue, or may be so by another rule."""
        assert waiter.line is not None
        self._homeless(waiter.line).look_again(waiter.line)

    def retry_with(self, launch: Launch, smaller: MemoryEstimate, node: str) -> None:
        """A load ran out of memory: once more there, alone and with less."""
        self._retry[launch] = (smaller, node)

    def settled(self, launch: Launch) -> None:
        """A load has succeeded, or failed for good."""
        self._retry.pop(launch, None)

    @property
    def is_behind(self) -> bool:
        """Whether there are lines that the last event left no time for."""
        return bool(self._turn.new)

    # ---- placing

    def place(self, now: float) -> None:
        """Look at homeless lines, and do what can be done."""
        reserved: set[str] = set()
        for head in self._heads(now, spend=True):
            found = self._decide(head, now, reserved)
            if found is None:
                continue
            node, decision = found
            self._follow(decision, node, head, now)
            overdue = head.is_overdue(now, self._limits)
            if overdue and not isinstance(decision, placement.LoadNow | placement.Never):
                reserved.add(node)  # what becomes free is for this one, not for smaller ones behind it
            if not self._nodes.are_few:
                self._note_yield(head, decision, overdue=overdue)

    def yielding(self, now: float) -> frozenset[int]:
        """Runners that take no more requests, because one of another model has waited too long for their place."""
        if not self._nodes.are_few:
            return frozenset(self._yields.values())
        for head in self._heads(now):
            if not head.is_overdue(now, self._limits):
                break
            found = self._decide(head, now)
            decision = found[1] if found else None
            if isinstance(decision, placement.Wait) and decision.yielding:
                return frozenset({decision.yielding})
            if isinstance(decision, placement.Evict):  # idle only because its next request has not been granted yet
                return frozenset(victim for victim in decision.runner_ids if self._had_its_turn(victim, now))
        return frozenset()

    def grow(self, line: Line, now: float) -> None:
        """One more runner for a line that waits too long, on a node that has none of this model."""
        stock = self._fleet.of(line.key)
        if len(self._nodes) < 2 or now - stock.grown_at < _GROW_EVERY_S / (1 + len(stock.runners) // 8):
            return
        if line.kind.gives_way and self._queue.persons:
            return
        ready, loading, slots = stock.ready_and_loading(line)
        if not ready:
            return
        slots += loading * (slots // ready)
        head = line.first()
        waiting = max(len(line), head.want.caller.left)  # of a batch, few lines are asked at a time
        if self._estimates.round_s(line.key) * waiting / slots <= self._limits.replica_wait_s:
            return
        stock.grown_at = now
        found = self._decide(head, now, beside=True)
        if found is None:
            return
        node, decision = found
        if isinstance(decision, placement.Evict):
            oldest_s = min(now - self._fleet.by_id[name].last_used for name in decision.runner_ids)
            if oldest_s < self._limits.replica_idle_s or line.kind.gives_way:
                return
        if isinstance(decision, placement.LoadNow | placement.Evict | placement.AskMemory):
            self._follow(decision, node, head, now, extra=True)

    def _homeless(self, line: Line) -> _Homeless:
        return self._batches if line.kind.gives_way else self._persons

    @property
    def _turn(self) -> _Homeless:
        """Those whose turn it is: lines of batches wait until nobody else does."""
        return self._persons if self._queue.persons else self._batches

    def _forget(self, line: Line) -> None:
        self._homeless(line).remove(line)
        self._yields.pop(line, None)

    def _heads(self, now: float, *, spend: bool = False) -> list[Waiter]:
        """The first waiting request of every model without a usable runner: overdue ones first, by arrival.

        Of many some; `spend`: those of them that were looked at go behind the others.
        """
        turn = self._turn
        are_many = not self._nodes.are_few or len(turn.lines) > _FEW_LINES
        lines = turn.some() if are_many else list(turn.lines)
        for line in lines:
            if not len(line):
                self._forget(line)
            elif spend:
                turn.looked_at(line)
        limits = self._limits
        firsts = [line.first() for line in lines if len(line)]
        firsts.sort(key=lambda item: (not item.is_overdue(now, limits), item.is_background(now, limits), item.arrived))
        heads: dict[str, Waiter] = {}
        for waiter in firsts:
            heads.setdefault(waiter.want.key, waiter)
        return list(heads.values())

    def _decide(
        self, head: Waiter, now: float, reserved: set[str] | None = None, *, beside: bool = False
    ) -> tuple[str, placement.Decision] | None:
        """Where, and what to do there: the node on which the least has to happen first. None: nowhere for now.

        reserved: nodes that are kept for others; beside: not where a runner of the same model is.
        """
        allowed = self._limits.places_of.get(head.want.name.lower())
        nodes = self._nodes.candidates(head.blob, head.want.memory, allowed, self._near(head))
        if not nodes:
            late = now >= head.arrived + self._limits.node_wait_s
            error = NoNode(now - head.arrived, sorted(allowed or ()))
            return ("", placement.Never(error)) if late else None
        best: tuple[str, placement.Decision] | None = None
        passed = False
        for node in nodes:
            if (reserved and node.id in reserved) or (beside and self._has(node, head.want.key)):
                passed = True
                continue
            decision = self._decide_on(node, head, now)
            if best is None or _EFFORT[type(decision)] < _EFFORT[type(best[1])]:
                best = (node.id, decision)
            if isinstance(decision, placement.LoadNow):
                break
            if isinstance(decision, placement.AskMemory) and (head.blob in node.blobs or not self._limits.spread):
                return node.id, decision  # to ask costs less than a copy of the model, or a node more
        if best is not None and passed and isinstance(best[1], placement.Never):
            return None
        return best

    def _decide_on(self, node: Node, head: Waiter, now: float) -> placement.Decision:
        smaller, where = self._retry.get(head.launch, (None, ""))
        fleet = self._fleet.on(node.id)
        if smaller is not None and where == node.id and any(runner.state == "stopping" for runner in fleet):
            return placement.Wait()
        fresh = node.figures if now - node.figures_at <= self._limits.memory_age_s else None
        need = smaller or head.want.memory
        return placement.decide(head, need, fleet, fresh, self._limits, now, max_loaded=node.max_loaded)

    def _near(self, head: Waiter) -> Iterator[str]:
        """Nodes where room may be made: those of runners of the same model, idle for longest, or loaded first."""
        if self._nodes.are_few:
            return
        fleet = self._fleet
        for name in islice(fleet.of(head.want.key).runners, 2):
            yield fleet.by_id[name].node
        for name in islice(fleet.idle, 4):
            yield fleet.by_id[name].node
        for name in islice(fleet.by_id, 4):
            yield fleet.by_id[name].node

    def _has(self, node: Node, key: str) -> bool:
        return any(self._fleet.by_id[name].key == key for name in node.runners)

    def _had_its_turn(self, runner_id: int, now: float) -> bool:
        return now >= self._fleet.by_id[runner_id].ready_at + self._limits.turn_s

    def _note_yield(self, head: Waiter, decision: placement.Decision, *, overdue: bool) -> None:
        assert head.line is not None
        if overdue and isinstance(decision, placement.Wait) and decision.yielding:
            self._yields[head.line] = decision.yielding
        else:
            self._yields.pop(head.line, None)

    def _follow(
        self, decision: placement.Decision, node: str, head: Waiter, now: float, *, extra: bool = False
    ) -> None:
        match decision:
            case placement.LoadNow():
                last_try = head.launch in self._retry
                self._fleet.load(head, decision.need, now, node=node, last_try=last_try, extra=extra)
            case placement.Evict():
                self._fleet.evict(decision.runner_ids, decision.reason, in_favour_of=head)
            case placement.AskMemory():
                if not self._nodes[node].reading:
                    self._nodes[node].reading = True
                    self._act(ReadMemory(node))
            case placement.Never():
                for line in self._queue.lines_of(head.want.key):
                    if line.kind.spec == head.want.spec:
                        for waiter in line:
                            self._fail(waiter, decision.error)
                    else:
                        self._homeless(line).look_again(line)  # its first is next of this model
            case placement.Wait():
                pass
