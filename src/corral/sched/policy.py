"""The scheduler's decisions: `handle(event, now) -> actions`. Pure: no clock, no I/O, no logging.

One object owns all state: the runners, the queue of waiting requests, the breakers. `scheduler.py` feeds it one event
at a time and performs what it answers. Collaborators: fairness.py (who is next), fleet.py (the runners), nodeindex.py
(the machines), membership.py (what these tell), placing.py and placement.py (where a runner comes from), affinity.py
(which of several), reload.py (can it serve that request), breaker.py (crash loops), estimate.py, timers.py.

A request's way, with the numbers that stand in the code:

 (1) The server is closing: it fails.
 (2) The circuit of its launch is open: it fails with the runner's last words.
 (3) A ready runner suits it, has a free slot and is not yielding, and nobody is before it: granted at once.
 (4) As many wait as may: QueueFull, with the estimated time until a place is free.
 (5) It waits. From now on every event may bring it forward (`_settle`):
 (6) a suitable runner is ready: granted in fair order, one slot or more at a time; a large one does not get the last
     free slot of a runner that serves a large one already;
 (7) a suitable runner is loading: it waits for that one;
 (8) none is: placing.py for the first of each model in line: load, evict first, wait, or fail.
 (9) Its runner fails to load: it fails too, unless less memory may help (once). Its runner dies: it gets a new one.
(10) A line of a batch waits for all others, and ends for them (giveway.py).
"""

from __future__ import annotations

from corral.errors import CorralError, GaveWay, NodeGone, QueueFull, RequestCanceled, RunnerGone, ServerClosing
from corral.sched import giveway
from corral.sched.affinity import Affinity
from corral.sched.breaker import Breakers
from corral.sched.estimate import Estimates, Place
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
from corral.sched.lines import Line
from corral.sched.membership import Membership
from corral.sched.nodeindex import Nodes
from corral.sched.nodes import HERE, Node
from corral.sched.places import Places
from corral.sched.placing import Placing
from corral.sched.state import Held, Limits, Runner, Waiter
from corral.sched.timers import Of, Timers

_LONGEST_RETRY_AFTER_S = 60
_LOOK = 8  # runners that a line of a batch is tried on


class Policy:
    """All state of the scheduler. Time is a float of seconds that never goes back."""

    def __init__(self, limits: Limits, *, clustered: bool = False) -> None:
        """clustered: there is no node until one joins, else this machine alone is there."""
        self.limits = limits
        self.nodes = Nodes(limits)
        if not clustered:
            self.nodes.add(Node(HERE, max_loaded=limits.max_loaded))
        self._timers = Timers(self._exists)
        self.fleet = Fleet(limits, self._act, self.nodes, lambda when, name: self._timers.note(when, "runner", name))
        self.queue = FairQueue(limits)
        self.holders: dict[str, int] = {}  # request id -> runner id, of granted requests
        self.closing = False
        self._estimates = Estimates()
        self._breakers = Breakers(limits)
        self._placing = Placing(limits, self.nodes, self.fleet, self.queue, self._estimates, self._act, self._fail)
        self._membership = Membership(limits, self.nodes, self.fleet, self._act)
        self._affinity = Affinity()
        self._places = Places(self.queue, self.fleet, self._estimates, self._act)
        self._news: list[Waiter] = []  # requests of this event
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
                self._membership.take(event, now)
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
        else:
            self.queue.add(waiter, now)  # (5)
            self._news.append(waiter)
            self.fleet.touched[waiter.want.key] = None
            full = self.queue.persons + waiter.gives_way > max(1, self.limits.max_queue)
            if full and not self._can_grant_at_once(waiter, now):  # (3) (4)
                wait_s = self._retry_after_s(waiter, now)
                self.queue.remove(waiter.id)
                self._act(Fail(waiter.id, QueueFull(self.limits.max_queue, wait_s)))

    def _can_grant_at_once(self, waiter: Waiter, now: float) -> bool:
        assert waiter.line is not None
        stock = self.fleet.of(waiter.want.key)
        runner = stock.free_for(waiter.line, self._placing.yielding(now))
        if runner is None or waiter.gives_way:
            return False
        lines = [line for line in self.queue.lines_of(waiter.want.key) if not line.kind.gives_way]
        return sum(len(line) for line in lines if stock.suits(runner, line)) == 1

    def _retry_after_s(self, waiter: Waiter, now: float) -> int:
        """Until a place in the queue should be free: when the first of this model's line is served."""
        wait_s = self._places.wait_s(waiter, now)
        return min(_LONGEST_RETRY_AFTER_S, max(1, round(wait_s)))

    def _on_ended(self, request_id: str, now: float) -> None:
        if (waiter := self.queue.remove(request_id)) is not None:
            self._left_by(waiter)
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
        self.fleet.file(runner, now)
        if self.queue.batches():
            self.fleet.wake(runner, now + self.limits.batch_quiet_s)

    def _left_by(self, waiter: Waiter) -> None:
        key = waiter.want.key
        self.fleet.touched[key] = None
        self.fleet.abort_unwanted(key, self.queue.lines_of(key))

    def _on_cancel_asked(self, request_id: str) -> None:
        if (waiter := self.queue.remove(request_id)) is not None:
            self._act(Fail(request_id, RequestCanceled()))
            self._left_by(waiter)
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
                    self._membership.suspect(runner, event.error)
                    if not isinstance(event.error, RunnerGone | NodeGone):  # it died while idle, which is no loop
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
        self._placing.settled(runner.launch)
        self._estimates.loaded(runner.key, now - runner.load_started)
        stock = self.fleet.of(runner.key)
        if runner.last_idle is None and not any(stock.suits(runner, line) for line in self.queue.lines_of(runner.key)):
            runner.last_idle = now
            self.fleet.file(runner, now)

    def _on_load_failed(self, event: LoadFailed, now: float) -> None:
        runner = self.fleet.remove(event.runner_id)
        if runner is None or runner.state == "stopping":  # it was aborted: nobody waits for it
            return
        smaller = self.fleet.smaller_form(runner) if event.out_of_memory else None
        if smaller is not None:  # (9) once more, alone and with less
            self._placing.retry_with(runner.launch, smaller, runner.node)
            self.fleet.stop("memory", self.fleet.others_idle(runner.node))
            return
        self._membership.suspect(runner, event.error)
        if isinstance(event.error, NodeGone):
            return  # those that wait are loaded for elsewhere
        self._placing.settled(runner.launch)
        self._breakers.record_failure(runner.launch, event.error, now)
        for line in self.queue.lines_of(runner.key):  # (9)
            if line.launch == runner.launch:  # others that it would have suited ask for less, and try that
                for waiter in line:
                    self._fail(waiter, event.error)

    def _on_died(self, event: Died, now: float) -> None:
        runner = self.fleet.remove(event.runner_id)
        if runner is None:
            return
        self._membership.suspect(runner, event.error)
        if (
            runner.leases and event.was_met and not isinstance(event.error, NodeGone)
        ):  # (9) a death while idle is no loop: the next request just loads anew
            self._breakers.record_failure(runner.launch, event.error, now, runner.clients)
        for request_id in runner.leases:
            self._act(Interrupt(request_id, event.error, abort_calls=False))

    def _on_stopped(self, event: Stopped, now: float) -> None:
        runner = self.fleet.remove(event.runner_id)
        if runner is None or not runner.renewal or self.closing or runner.unload_asked is not None:
            return
        if not len(self.queue):  # else the next load is for whoever waits
            self.fleet.end_renewal(runner, now)

    # ---- what follows from the state

    def _settle(self, now: float) -> None:
        self._wake(now)
        if not self.queue.persons:
            self.fleet.touched.update(dict.fromkeys(line.key for line in self.queue.batches()))
        changed = sorted(self.fleet.touched, key=self._oldest_runner)
        self.fleet.touched.clear()
        self._fail_refused(now)
        for key in changed:
            self._placing.review(key)
        yielding = self._placing.yielding(now)
        for key in changed:
            self._grant_slots(key, yielding, now)
        self._placing.place(now)
        for held in giveway.ending(self.fleet, self.queue):  # (10)
            self._act(Interrupt(held.request_id, GaveWay()))
        for key in changed:
            for line in self.queue.lines_of(key):
                self._placing.grow(line, now)
        self.fleet.stop_expired(now)
        self._note_moments()
        self._places.tell(now)

    def _oldest_runner(self, key: str) -> int:
        return next(iter(self.fleet.of(key).runners), 0)

    def _wake(self, now: float) -> None:
        """Look at what time has something to say about."""
        for of, name in self._timers.due(now):
            if of == "runner":
                self.fleet.woken(int(name), now)
            elif (waiter := self.queue.get(str(name))) is not None:
                is_aged = waiter.want.caller.priority == "background" and not waiter.is_background(now, self.limits)
                if is_aged and not waiter.aged:
                    self.queue.age(waiter)
                self.fleet.touched[waiter.want.key] = None
                self._placing.look_again(waiter)

    def _note_moments(self) -> None:
        """Of the requests that came with this event and wait: when they count otherwise."""
        limits = self.limits
        for waiter in self._news:
            if self.queue.get(waiter.id) is not waiter:
                continue
            moments = {limits.turn_s}
            if waiter.want.caller.priority == "background":
                moments.add(limits.background_patience_s)
            if waiter.gives_way:
                moments |= {limits.batch_patience_s, limits.batch_quiet_s}
            if HERE not in self.nodes:
                moments.add(limits.node_wait_s)
            for seconds in moments:
                self._timers.note(waiter.arrived + seconds, "request", waiter.id)
        self._news.clear()

    def _exists(self, of: Of, name: str | int) -> bool:
        return name in self.fleet.by_id if of == "runner" else self.queue.get(str(name)) is not None

    def _fail_refused(self, now: float) -> None:
        """A circuit that has opened takes its waiting requests with it."""
        if self._breakers.are_closed:
            return
        for line in self.queue.lines():
            if self._breakers.knows(line.launch) and not self.fleet.of(line.key).houses(line):
                for waiter in line:
                    refusal = self._breakers.refusal(waiter.launch, waiter.client, now)
                    if refusal is not None:
                        self._fail(waiter, refusal)

    def _grant_slots(self, key: str, yielding: frozenset[int], now: float) -> None:
        stock = self.fleet.of(key)
        while True:
            free = [line for line in self.queue.lines_of(key) if stock.free_for(line, yielding) is not None]
            waiter = self.queue.next_of(line for line in free if not line.kind.gives_way)
            if waiter is None:
                break
            assert waiter.line is not None
            runner = self._affinity.find(waiter, self.fleet, yielding) or stock.free_for(waiter.line, yielding)
            assert runner is not None
            self._grant(runner, self.queue.take(waiter.id), now)  # (6)
        for line in free:
            if line.kind.gives_way:
                self._grant_batch(line, yielding, now)  # (10)

    def _grant_batch(self, line: Line, yielding: frozenset[int], now: float) -> None:
        refused = set(yielding)
        while len(refused) < len(yielding) + _LOOK and (waiter := self.queue.next_of([line])) is not None:
            runner = self.fleet.of(line.key).free_for(line, refused)
            if runner is None:
                return
            if giveway.may_start(waiter, runner, self.fleet, self.queue.persons, now):
                self._grant(runner, self.queue.take(waiter.id), now)
            else:
                refused.add(runner.id)

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
        self._affinity.note(waiter, runner)
        self.fleet.file(runner, now)
        self._act(Grant(waiter.id, runner.id, slots, grant_notices(runner, waiter)))

    def _fail(self, waiter: Waiter, error: CorralError) -> None:
        if self.queue.remove(waiter.id) is not None:
            self._act(Fail(waiter.id, error))

    # ---- queries

    def line(self, now: float) -> list[Place]:
        """Every waiting request with its position among those of its model and its estimated wait."""
        return self._places.line(now)

    def next_deadline(self, now: float) -> float | None:
        """When `Ticked` must come at the latest, if nothing else happens; None = never."""
        times = [] if (moment := self._timers.next()) is None else [moment]
        if self._placing.is_behind:
            times.append(now)
        if (moment := self._places.next_telling()) is not None:
            times.append(moment)
        return max(now, min(times)) if times else None
