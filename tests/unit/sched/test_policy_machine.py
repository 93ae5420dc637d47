"""Any sequence of events keeps the policy's promises: no lost waiter, no leaked lease, no slot twice, bounded waits."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.sched.world import ALL_AUTOMATIC, World

import corral.sched.nodeindex as nodeindex
import corral.sched.placing as placing
from corral.errors import NodeGone, RunnerDied, RunnerFailedToStart, RunnerHung
from corral.sched.events import Died, Loaded, LoadFailed, RenewAsked, RunnerReported, Stopped
from corral.sched.giveway import others
from corral.sched.state import Runner

KEYS = ("a", "b", "c", "d")
NODES = ("n1", "n2", "n3")
FAILED = RunnerFailedToStart("llama-server process has terminated: exit status 1", ("bad tensor",))
MAX_QUEUE = 6
MAX_LOADED = 2
PINNED = frozenset({"d:latest"})


class PolicyMachine(RuleBasedStateMachine):
    """Clients come, leave and cancel; runners load, fail, die and stop; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.count = 0
        self.open: set[str] = set()  # requests whose holders have not left
        self.closed = False

    def make_world(self) -> World:
        return World(max_queue=MAX_QUEUE, max_loaded=MAX_LOADED, pinned=PINNED, free_gib=8.0, breaker_failures=4)

    # ---- what clients do

    @rule(
        key=st.sampled_from(KEYS),
        client=st.sampled_from(("x", "y", "z")),
        priority=st.sampled_from(("interactive", "background", "batch")),
        keep_alive_s=st.sampled_from((None, 0.0, 5.0, float("inf"))),
        slots=st.sampled_from((1, 1, 3)),
        gib=st.sampled_from((1.0, 3.0, 20.0)),
        window=st.sampled_from((4096, 4096, 8192)),
    )
    def ask(self, window: int, **wish: Any) -> None:
        self.count += 1
        request_id = f"r{self.count}"
        automatic = ALL_AUTOMATIC if window == 4096 else ALL_AUTOMATIC - {"context_window"}
        before = len(others(self.world.policy.queue))  # lines of batches are bounded by who asks them
        self.world.ask(request_id, parallel=2, context_window=window, automatic=automatic, **wish)
        if request_id not in self.world.failed:
            self.open.add(request_id)
        assert len(others(self.world.policy.queue)) <= max(before, MAX_QUEUE)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.open)))
        self.open.discard(request_id)
        self.world.end(request_id)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.world.cancel(data.draw(st.sampled_from(sorted(self.open))))

    @rule(key=st.sampled_from(KEYS))
    def unload(self, key: str) -> None:
        self.world.unload(key)

    @precondition(lambda self: self._runners("ready"))
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        self.world.send(RenewAsked(data.draw(st.sampled_from(self._runners("ready"))).id))

    # ---- what runners do

    def _runners(self, state: str) -> list[Runner]:
        return [runner for runner in self.world.policy.fleet if runner.state == state]

    @precondition(lambda self: self._runners("loading"))
    @rule(data=st.data(), slots=st.sampled_from((1, 2)))
    def load(self, data: st.DataObject, slots: int) -> None:
        runner = data.draw(st.sampled_from(self._runners("loading")))
        self.world.send(Loaded(runner.id, slots, runner.spec.context_window, 2**30))

    @precondition(lambda self: self._runners("loading"))
    @rule(data=st.data(), out_of_memory=st.booleans())
    def fail(self, data: st.DataObject, out_of_memory: bool) -> None:
        runner = data.draw(st.sampled_from(self._runners("loading")))
        self.world.send(LoadFailed(runner.id, FAILED, out_of_memory))

    @precondition(lambda self: self._runners("ready"))
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.world.send(Died(data.draw(st.sampled_from(self._runners("ready"))).id, RunnerDied(-11)))

    @precondition(lambda self: self._runners("ready"))
    @rule(data=st.data())
    def hang(self, data: st.DataObject) -> None:
        runner = data.draw(st.sampled_from(self._runners("ready")))
        self.world.send(RunnerReported(runner.id, RunnerHung(30.0)))

    @precondition(lambda self: self._runners("stopping"))
    @rule(data=st.data())
    def reap(self, data: st.DataObject) -> None:
        self.world.send(Stopped(data.draw(st.sampled_from(self._runners("stopping"))).id))

    @rule(seconds=st.sampled_from((0.1, 3.0, 11.0, 400.0)))
    def pass_time(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(gib=st.sampled_from((0.5, 4.0, 8.0)))
    def change_memory(self, gib: float) -> None:
        self.world.free_gib = gib

    # ---- what always holds

    @invariant()
    def no_request_is_lost(self) -> None:
        waiting = {waiter.id for waiter in self.world.policy.queue}
        for request_id in self.open:
            answered = request_id in self.world.granted or request_id in self.world.failed
            assert answered != (request_id in waiting), f"{request_id} is lost, or both answered and waiting"
        assert waiting <= self.open

    @invariant()
    def no_lease_leaks_and_no_slot_is_used_twice(self) -> None:
        held: set[str] = set()
        for runner in self.world.policy.fleet:
            assert sum(lease.slots for lease in runner.leases.values()) <= runner.slots
            assert not held & runner.leases.keys()
            held |= runner.leases.keys()
        assert held <= self.open
        assert held <= self.world.policy.holders.keys() <= self.open

    @invariant()
    def no_more_runners_than_allowed_and_one_per_model(self) -> None:
        for node in self.world.policy.nodes.values():
            keys = self.world.on(node.id)
            assert len(keys) <= MAX_LOADED
            assert len(keys) == len(set(keys))
            assert {runner.id for runner in self.world.policy.fleet if runner.node == node.id} == set(node.runners)

    @invariant()
    def no_busy_runner_was_stopped_unless_it_hung(self) -> None:
        for runner in self._runners("stopping"):
            assert not runner.leases or self.world.reasons[runner.id] == "failed"

    @invariant()
    def pinned_runners_go_only_on_request(self) -> None:
        assert not {reason for key, reason in self.world.stops if key == "d"} & {"evict", "memory"}

    @invariant()
    def no_free_slot_beside_a_request_it_suits(self) -> None:
        policy = self.world.policy
        for waiter in policy.queue:
            runner = policy.fleet.suitable(waiter)
            if runner is not None and waiter.gives_way:
                held = [lease.gives_way for each in policy.fleet for lease in each.leases.values()]
                assert others(policy.queue) or not all(held) or runner.free_slots < min(2, runner.slots)
            elif runner is not None and runner.free_slots and not runner.leaving:
                overdue = [head for head in policy.queue if head.is_overdue(self.world.now, policy.limits)]
                assert overdue, "a request waits although its runner has a free slot and nobody is overdue"

    @invariant()
    def nothing_waits_without_something_that_will_happen(self) -> None:
        policy = self.world.policy
        if not len(policy.queue):
            return
        moving = any(runner.state != "ready" or runner.leases for runner in policy.fleet)
        assert moving or policy.next_deadline(self.world.now) is not None

    @invariant()
    def what_is_filed_is_what_is(self) -> None:
        fleet = self.world.policy.fleet
        assert set(fleet.idle) == {runner.id for runner in fleet if runner.is_idle}
        for waiter in self.world.policy.queue:
            assert waiter.line is not None
            for without in ((), [runner.id for runner in fleet][:1]):
                found = fleet.of(waiter.want.key).free_for(waiter.line, without)
                able = [
                    runner
                    for runner in fleet
                    if runner.key == waiter.want.key
                    and runner.id not in without
                    and fleet.of(runner.key).takes(runner, waiter.line, without)
                ]
                assert (found is None) == (not able)
                assert found is None or found.free_slots == max(runner.free_slots for runner in able)

    def mend(self) -> None:
        """There is room for everything."""
        self.world.free_gib = 1000.0

    def teardown(self) -> None:
        """Everybody who is still there gets an answer once the others leave and loads succeed: waits are bounded."""
        world = self.world
        self.mend()
        for _ in range(40 * (len(self.open) + 1)):
            for runner in self._runners("stopping"):
                world.send(Stopped(runner.id))
            for runner in self._runners("loading"):
                world.send(Loaded(runner.id, 2, runner.spec.context_window, 2**30))
            for request_id in sorted(self.open & (world.granted.keys() | world.failed.keys())):
                self.open.discard(request_id)
                world.end(request_id)
            if not self.open:
                break
            world.wait(1.0)
        assert not self.open, f"never answered: {self.open} by {world.policy}"
        assert not world.policy.holders
        assert not len(world.policy.queue)


class ClusterMachine(PolicyMachine):
    """The same on machines that join, are emptied and die."""

    def make_world(self) -> World:
        limits: dict[str, Any] = {"max_queue": MAX_QUEUE, "max_loaded": MAX_LOADED, "pinned": PINNED}
        places = {"b:latest": frozenset({"n1", "n2"})}
        return World(clustered=True, free_gib=8.0, breaker_failures=4, replica_wait_s=1.0, places_of=places, **limits)

    @rule(node=st.sampled_from(NODES), blobs=st.sets(st.sampled_from(KEYS)))
    def join(self, node: str, blobs: set[str]) -> None:
        self.world.join(node, gib=8.0, blobs=blobs)

    @precondition(lambda self: bool(self.world.policy.nodes))
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(sorted(self.world.policy.nodes)))
        held = {name for runner in self.world.policy.fleet if runner.node == node for name in runner.leases}
        self.world.lose(node)
        assert node not in self.world.policy.nodes
        assert held <= self.world.interrupted.keys()
        assert not self.world.on(node)

    @precondition(lambda self: bool(self.world.policy.nodes))
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        self.world.drain(data.draw(st.sampled_from(sorted(self.world.policy.nodes))))

    @precondition(lambda self: bool(self.world.policy.nodes))
    @rule(data=st.data())
    def say_gone(self, data: st.DataObject) -> None:
        """A runner's handle finds its node gone before anybody else does."""
        for runner in self._runners("ready")[:1]:
            self.world.send(Died(runner.id, NodeGone(runner.node)))
        for runner in self._runners("loading")[:1]:
            self.world.send(LoadFailed(runner.id, NodeGone(runner.node)))

    @invariant()
    def nothing_is_loaded_where_it_may_not_be(self) -> None:
        nodes = self.world.policy.nodes
        for runner in self.world.policy.fleet:
            assert runner.node in nodes
            assert runner.key != "b" or runner.node in {"n1", "n2"}
            assert runner.state != "loading" or nodes[runner.node].state == "up"

    @invariant()
    def a_draining_node_has_no_idle_runner(self) -> None:
        for runner in self.world.policy.fleet:
            assert self.world.policy.nodes[runner.node].state == "up" or not runner.is_idle

    def mend(self) -> None:
        super().mend()
        for node in NODES:
            self.world.join(node, gib=1000.0)


ClusterMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestClusterMachine = ClusterMachine.TestCase


class LargeClusterMachine(ClusterMachine):
    """The same, decided as where there are too many nodes and lines to look at all of them."""

    def __init__(self) -> None:
        self.before = nodeindex.FEW, placing._FEW_LINES
        nodeindex.FEW = placing._FEW_LINES = 0
        super().__init__()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            nodeindex.FEW, placing._FEW_LINES = self.before


LargeClusterMachine.TestCase.settings = ClusterMachine.TestCase.settings
TestLargeClusterMachine = LargeClusterMachine.TestCase
PolicyMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPolicyMachine = PolicyMachine.TestCase
