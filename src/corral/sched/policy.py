"""The scheduler's decisions: `handle(event, now) -> actions`. Pure: no clock, no I/O, no logging.

One object owns all state: the runners, the queue of waiting requests, the breakers. `scheduler.py` feeds it one event
at a time and performs what it answers. Collaborators: fairness.py (who is next), fleet.py (the runners),
placement.py (where one comes from), reload.py (can it serve that request), breaker.py (crash loops), estimate.py.

A request's way, with the numbers that stand in the code:

 (1) The server is closing: it fails.
 (2) The circuit of its launch is open: it fails with the runner's last words.
 (3) A ready runner suits it, has a free slot and is not yielding, and nobody is before it: granted at once.
 (4) As many wait as may: QueueFull, with the estimated time until a place is free.
 (5) It waits. From now on every event may bring it forward (`_settle`):
 (6) a suitable runner is ready: granted in fair order, one slot or more at a time; a large one does not get the last
     free slot of a runner that serves a large one already;
 (7) a suitable runner is loading: it waits for that one;
 (8) none is: placement.decide for the first of each model in line: load, evict first, wait, or fail.
 (9) Its runner fails to load: it fails too, unless less memory may help (once). Its runner dies: it gets a new one.
(10) A line of a batch waits for all others, and ends for them (giveway.py).
"""

from __future__ import annotations

from corral.errors import CorralError, GaveWay, NodeGone, NoNode, QueueFull, RequestCanceled, RunnerGone, ServerClosing
from corral.sched import giveway, placement
from corral.sched.breaker import Breakers
from corral.sched.estimate import Estimates, Place, line_up
from corral.sched.events import (
    Action,
    CancelAsked,
    Died,
    Ended,
    Event,
    Fail,
    Grant,
    Interrupt,
    Loaded,
    LoadFailed,
    NodeDrainAsked,
    NodeJoined,
    NodeLost,
    NodeReported,
    Notify,
    ReadMemory,
    RenewAsked,
    Requested,
    RunnerReported,
    ShutdownAsked,
    Stopped,
    Translating,
    UnloadAsked,
)
from corral.sched.fairness import FairQueue
from corral.sched.fleet import Fleet, grant_notices
from corral.sched.memory import MemoryEstimate
from corral.sched.nodes import HERE, Node
from corral.sched.state import Held, Launch, Limits, Runner, Waiter

_LONGEST_RETRY_AFTER_S = 60
_EFFORT = {
    placement.LoadNow: 0,
    placement.AskMemory: 1,
    placement.Evict: 2,
    placement.Wait: 3,
    placement.Never: 4,
}  # of the decisions for each node, the one of least effort is followed


class Policy:
    """All state of the scheduler. Time is a float of seconds that never goes back."""

    def __init__(self, limits: Limits, *, clustered: bool = False) -> None:
        """clustered: there is no node until one joins, else this machine alone is there."""
        self.limits = limits
        self.nodes = {} if clustered else {HERE: Node(HERE, max_loaded=limits.max_loaded)}
        self.fleet = Fleet(limits, self._act, self.nodes)
        self.queue = FairQueue(limits)
        self.holders: dict[str, int] = {}  # request id -> runner id, of granted requests
        self.closing = False
        self._estimates = Estimates()
        self._breakers = Breakers(limits)
        self._retry: dict[Launch, MemoryEstimate] = {}  # smaller form, after a load ran out of memory
        self._actions: list[Action] = []

    def __repr__(self) -> str:
        return f"Policy({self.fleet!r}, {self.queue!r})"

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; the actions are to be performed in order."""
        self._actions.clear()
        match event:
            case Requested() | Ended() | CancelAsked():
                self._take_from_client(event, now)
            case Translating() | Loaded() | LoadFailed() | Died() | Stopped() | RunnerReported():
                self._take_from_runner(event, now)
            case UnloadAsked():
                self.fleet.ask_to_go(now, event.key)
            case RenewAsked():
                if not len(self.queue):  # whoever waits may need its memory or its place
                    self.fleet.begin_renewal(event.runner_id)
            case NodeJoined() | NodeReported() | NodeLost() | NodeDrainAsked():
                self._take_from_node(event, now)
            case ShutdownAsked():
                self._on_shutdown(event.force, now)
            case _:
                pass  # Ticked: time has passed, and _settle sees it
        self._settle(now)
        return list(self._actions)

    def _act(self, action: Action) -> None:
        self._actions.append(action)

    # ---- events of clients

    def _take_from_client(self, event: Requested | Ended | CancelAsked, now: float) -> None:
        match event:
            case Requested():
                self._on_request(event, now)
            case Ended():
                self._on_ended(event.request_id, now)
            case CancelAsked():
                self._on_cancel_asked(event.request_id)

    def _on_request(self, event: Requested, now: float) -> None:
        waiter = Waiter(event.request_id, event.want, now)
        if self.closing:  # (1)
            self._act(Fail(waiter.id, ServerClosing()))
        elif refusal := self._breakers.refusal(waiter.launch, waiter.client, now):  # (2)
            self._act(Fail(waiter.id, refusal))
        elif self._is_full() and not self._can_grant_at_once(waiter, now):  # (3) (4)
            self._act(Fail(waiter.id, QueueFull(self.limits.max_queue, self._retry_after_s(waiter, now))))
        else:
            self.queue.add(waiter)  # (5)

    def _is_full(self) -> bool:
        return len(giveway.others(self.queue)) >= max(1, self.limits.max_queue)

    def _can_grant_at_once(self, waiter: Waiter, now: float) -> bool:
        runner = self.fleet.suitable(waiter)
        if runner is None or not runner.free_slots or runner.id in self._yielding(now):
            return False
        if waiter.gives_way or (waiter.want.large and runner.spares_last_slot):
            return False
        return not any(self.fleet.suitable(other) is runner for other in giveway.others(self.queue))

    def _retry_after_s(self, waiter: Waiter, now: float) -> int:
        """Until a place in the queue should be free: when the first of this model's line is served."""
        runner = self.fleet.suitable(waiter)
        wait_s = self._estimates.wait_s(waiter.want.key, 0, runner, now)
        return min(_LONGEST_RETRY_AFTER_S, max(1, round(wait_s)))

    def _on_ended(self, request_id: str, now: float) -> None:
        if self.queue.remove(request_id) is not None:
            self.fleet.abort_unwanted(self.queue)
            return
        runner = self.fleet.by_id.get(self.holders.pop(request_id, 0))
        if runner is None:
            return  # failed before, or its runner is gone
        held = runner.leases.pop(request_id)
        runner.last_used = now
        self._estimates.served(runner.key, now - held.started)
        if runner.state == "ready":
            self._breakers.record_success(runner.launch, held.want.caller.client, now)
            if not runner.leases:
                runner.last_idle = now

    def _on_cancel_asked(self, request_id: str) -> None:
        if self.queue.remove(request_id) is not None:
            self._act(Fail(request_id, RequestCanceled()))
            self.fleet.abort_unwanted(self.queue)
        elif request_id in self.holders:
            self._act(Interrupt(request_id, RequestCanceled()))

    def _on_shutdown(self, force: bool, now: float) -> None:
        self.closing = True
        for waiter in self.queue:
            self._fail(waiter, ServerClosing())
        self.fleet.ask_to_go(now)
        self.fleet.stop("shutdown", [runner for runner in self.fleet if force or not runner.leases])
        if force:
            for request_id in self.holders:
                self._act(Interrupt(request_id, ServerClosing()))

    # ---- events of runners

    def _take_from_runner(
        self, event: Translating | Loaded | LoadFailed | Died | Stopped | RunnerReported, now: float
    ) -> None:
        match event:
            case Translating():
                self._on_translating(event, now)
            case Loaded():
                self._on_loaded(event, now)
            case LoadFailed():
                self._on_load_failed(event, now)
            case Died():
                self._on_died(event, now)
            case Stopped():
                self._on_stopped(event, now)
            case RunnerReported():
                runner = self.fleet.by_id.get(event.runner_id)
                if runner is not None and runner.state == "ready":
                    if not isinstance(event.error, RunnerGone):  # it died while idle, which is no loop
                        self._breakers.record_failure(runner.launch, event.error, now, runner.clients)
                    self.fleet.stop("failed", [runner])

    def _on_translating(self, event: Translating, now: float) -> None:
        runner = self.fleet.by_id.get(event.runner_id)
        if runner is not None:
            runner.translating = (event.processed, event.total) if event.processed < event.total else (0, 0)
            runner.load_started = now  # what comes once is no part of what a load takes

    def _on_loaded(self, event: Loaded, now: float) -> None:
        runner = self.fleet.became_ready(event, now)
        if runner is None:
            return
        self._retry.pop(runner.launch, None)
        self._estimates.loaded(runner.key, now - runner.load_started)
        if runner.last_idle is None and not any(self.fleet.suitable(waiter) is runner for waiter in self.queue):
            runner.last_idle = now

    def _on_load_failed(self, event: LoadFailed, now: float) -> None:
        runner = self.fleet.remove(event.runner_id)
        if runner is None or runner.state == "stopping":  # it was aborted: nobody waits for it
            return
        smaller = self.fleet.smaller_form(runner) if event.out_of_memory else None
        if smaller is not None:  # (9) once more, alone and with less
            self._retry[runner.launch] = smaller
            self.fleet.stop("memory", self.fleet.others_idle(runner.node))
            return
        self._retry.pop(runner.launch, None)
        self._breakers.record_failure(runner.launch, event.error, now)
        for waiter in self.queue:  # (9)
            if waiter.launch == runner.launch:  # others that it would have suited ask for less, and try that
                self._fail(waiter, event.error)

    def _on_died(self, event: Died, now: float) -> None:
        runner = self.fleet.remove(event.runner_id)
        if runner is None:
            return
        if runner.leases and event.was_met:  # (9) a death while idle is no loop: the next request just loads anew
            self._breakers.record_failure(runner.launch, event.error, now, runner.clients)
        for request_id in runner.leases:
            self._act(Interrupt(request_id, event.error, abort_calls=False))

    def _on_stopped(self, event: Stopped, now: float) -> None:
        runner = self.fleet.remove(event.runner_id)
        if runner is None or not runner.renewal or self.closing or runner.unload_asked is not None:
            return
        if not len(self.queue):  # else the next load is for whoever waits
            self.fleet.end_renewal(runner, now)

    # ---- events of nodes

    def _take_from_node(self, event: NodeJoined | NodeReported | NodeLost | NodeDrainAsked, now: float) -> None:
        node = self.nodes.get(event.node_id)
        match event:
            case NodeJoined():
                node = self.nodes.setdefault(event.node_id, Node(event.node_id))
                node.state, node.max_loaded = "up", self.limits.places(len(event.figures.devices))
                node.report(event.figures, event.blobs, now)
            case NodeReported():
                if node is not None:  # else it was lost a moment ago
                    node.report(event.figures, event.blobs, now)
            case NodeDrainAsked():
                if node is not None:
                    node.state = "draining"
                    self.fleet.ask_to_go(now, node=node.id)
            case NodeLost():
                if node is not None:
                    self._on_node_lost(node, event.why)

    def _on_node_lost(self, node: Node, why: str) -> None:
        """Its runners are gone at once; no breaker counts that, for it says nothing of them."""
        for runner in self.fleet.on(node.id):
            self.fleet.stop("lost", [runner])
            self.fleet.remove(runner.id)
            for request_id in runner.leases:
                self._act(Interrupt(request_id, NodeGone(node.id, why)))
        del self.nodes[node.id]

    # ---- what follows from the state

    def _settle(self, now: float) -> None:
        self._fail_refused(now)
        self._grant_slots(now)
        self._place_homeless(now)
        for held in giveway.ending(self.fleet, self.queue):  # (10)
            self._act(Interrupt(held.request_id, GaveWay()))
        self.fleet.stop_expired(now)
        self._notify(now)

    def _fail_refused(self, now: float) -> None:
        """A circuit that has opened takes its waiting requests with it."""
        for waiter in self.queue:
            refusal = self._breakers.refusal(waiter.launch, waiter.client, now)
            if refusal is not None and self.fleet.suitable(waiter) is None:
                self._fail(waiter, refusal)

    def _grant_slots(self, now: float) -> None:
        yielding = self._yielding(now)
        for runner in self.fleet:
            if not runner.free_slots or runner.id in yielding:
                continue
            line = [waiter for waiter in self.queue if self.fleet.suitable(waiter) is runner]
            for waiter in self.queue.order(line, now):
                if not runner.free_slots:
                    break
                if waiter.want.large and runner.spares_last_slot:
                    continue
                if waiter.gives_way and not giveway.may_start(waiter, runner, self.fleet, self.queue, now):  # (10)
                    continue
                self._grant(runner, self.queue.take(waiter.id), now)  # (6)

    def _grant(self, runner: Runner, waiter: Waiter, now: float) -> None:
        want = waiter.want
        slots = max(1, min(want.slots, runner.free_slots - waiter.gives_way))
        runner.leases[waiter.id] = Held(waiter.id, want, slots, waiter.arrived, now)
        runner.leases[waiter.id].patient = giveway.is_patient(waiter, runner, self.fleet)
        runner.last_used = now
        if want.keep_alive_s is not None:
            runner.keep_alive_s = self.limits.keep_alive(want.keep_alive_s, runner.name)
            runner.unload_asked = None
        self.holders[waiter.id] = runner.id
        self._act(Grant(waiter.id, runner.id, slots, grant_notices(runner, waiter)))

    def _place_homeless(self, now: float) -> None:
        for head in self._heads(now):
            node, decision = self._decide(head, now)
            self._follow(decision, node, head, now)  # (8)
            if head.is_overdue(now, self.limits) and not isinstance(decision, placement.LoadNow | placement.Never):
                return  # what becomes free is for this one, not for smaller ones behind it

    def _follow(self, decision: placement.Decision, node: str, head: Waiter, now: float) -> None:
        match decision:
            case placement.LoadNow():
                self.fleet.load(head, decision.need, now, node=node, last_try=head.launch in self._retry)
            case placement.Evict():
                self.fleet.evict(decision.runner_ids, decision.reason, in_favour_of=head)
            case placement.AskMemory():
                if not self.nodes[node].reading:
                    self.nodes[node].reading = True
                    self._act(ReadMemory(node))
            case placement.Never():
                for waiter in self.queue:
                    if waiter.want.key == head.want.key and waiter.want.spec == head.want.spec:
                        self._fail(waiter, decision.error)
            case placement.Wait():
                pass

    def _decide(self, head: Waiter, now: float) -> tuple[str, placement.Decision]:
        """Where, and what to do there: the node on which the least has to happen first."""
        up = [node for node in self.nodes.values() if node.state == "up"]
        if not up:
            waited_s = now - head.arrived
            late = waited_s >= self.limits.node_wait_s
            return "", placement.Never(NoNode(waited_s)) if late else placement.Wait()
        up.sort(key=lambda node: (head.want.digest not in node.blobs, len(self.fleet.on(node.id)), node.id))
        decisions = [(node.id, self._decide_on(node, head, now)) for node in up]
        return min(decisions, key=lambda each: _EFFORT[type(each[1])])

    def _decide_on(self, node: Node, head: Waiter, now: float) -> placement.Decision:
        smaller = self._retry.get(head.launch)
        fleet = self.fleet.on(node.id)
        if smaller is not None and any(runner.state == "stopping" for runner in fleet):
            return placement.Wait()
        fresh = node.figures if now - node.figures_at <= self.limits.memory_age_s else None
        need = smaller or head.want.memory
        return placement.decide(head, need, fleet, fresh, self.limits, now, max_loaded=node.max_loaded)

    def _heads(self, now: float) -> list[Waiter]:
        """The first waiting request of every model without a usable runner: overdue ones first, by arrival."""
        limits = self.limits
        waiting = giveway.others(self.queue) or self.queue
        homeless = [waiter for waiter in waiting if self.fleet.suitable(waiter) is None]
        homeless.sort(
            key=lambda item: (not item.is_overdue(now, limits), item.is_background(now, limits), item.arrived)
        )
        heads: dict[str, Waiter] = {}
        for waiter in homeless:
            heads.setdefault(waiter.want.key, waiter)
        return list(heads.values())

    def _yielding(self, now: float) -> frozenset[int]:
        """Runners that take no more requests, because one of another model has waited too long for their place."""
        for head in self._heads(now):
            if not head.is_overdue(now, self.limits):
                break
            _, decision = self._decide(head, now)
            if isinstance(decision, placement.Wait) and decision.yielding:
                return frozenset({decision.yielding})
            if isinstance(decision, placement.Evict):  # idle only because its next request has not been granted yet
                return frozenset(victim for victim in decision.runner_ids if self._had_its_turn(victim, now))
        return frozenset()

    def _had_its_turn(self, runner_id: int, now: float) -> bool:
        return now - self.fleet.by_id[runner_id].ready_at >= self.limits.turn_s

    def _fail(self, waiter: Waiter, error: CorralError) -> None:
        if self.queue.remove(waiter.id) is not None:
            self._act(Fail(waiter.id, error))

    def _notify(self, now: float) -> None:
        if not any(waiter.want.on_progress for waiter in self.queue):
            return
        for place in self.line(now):
            waiter = place.waiter
            told = (place.progress.stage, place.progress.position, place.progress.processed)
            if waiter.want.on_progress is not None and waiter.told != told:
                waiter.told = told
                self._act(Notify(waiter.id, place.progress))

    # ---- queries

    def line(self, now: float) -> list[Place]:
        """Every waiting request with its position among those of its model and its estimated wait."""
        return line_up(self.queue, self.fleet.suitable, self._estimates, now)

    def next_deadline(self, now: float) -> float | None:
        """When `Ticked` must come at the latest, if nothing else happens; None = never."""
        limits = self.limits
        times = [runner.expires_at(now) for runner in self.fleet if runner.is_idle]
        if not self.nodes:
            times += [waiter.arrived + limits.node_wait_s for waiter in self.queue]
        for waiter in self.queue:
            times += [waiter.arrived + limits.turn_s, waiter.arrived + limits.background_patience_s]
            times += [waiter.arrived + limits.batch_patience_s] if waiter.gives_way else []
        if len(self.queue):
            ready = [runner for runner in self.fleet if runner.state == "ready"]
            times += [runner.resides_until(limits) for runner in ready]
            times += [runner.ready_at + limits.turn_s for runner in ready]
            times += [runner.last_used + limits.batch_quiet_s for runner in ready]
        return min((time for time in times if now < time), default=None)
