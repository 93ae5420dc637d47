"""Lines of batches: they start when nobody else wants anything, and end when somebody does."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.sched.world import World

from corral.errors import GaveWay, QueueFull
from corral.sched.events import Loaded


def lines(world: World, *names: str, **wish: Any) -> None:
    world.ask(*names, priority="batch", client="batch", **wish)


def running(world: World, slots: int = 4) -> None:
    """A runner that is ready and idle."""
    world.ask("first", parallel=slots)
    world.ready(slots=slots)
    world.end("first")


def test_lines_take_all_slots_but_one() -> None:
    world = World()
    running(world)
    lines(world, "l1", "l2", "l3", "l4", parallel=4)
    assert world.runner().leases.keys() == {"l1", "l2", "l3"}
    world.ask("person", parallel=4)
    assert "person" in world.granted


def test_a_line_takes_the_only_slot_there_is() -> None:
    world = World()
    running(world, slots=1)
    lines(world, "l1")
    assert "l1" in world.granted


def test_no_line_starts_while_others_are_served_or_wait() -> None:
    world = World()
    running(world)
    world.ask("person", parallel=4)
    lines(world, "l1", "l2", parallel=4)
    world.wait(10)
    assert not {"l1", "l2"} & world.granted.keys()
    world.end("person")
    assert {"l1", "l2"} <= world.granted.keys()


def test_beside_others_who_never_end_one_line_at_a_time_goes_on_after_its_patience() -> None:
    world = World(batch_patience_s=30.0)
    running(world)
    world.ask("person", parallel=4)
    lines(world, "l1", "l2", parallel=4)
    world.wait(31)
    assert world.runner().leases.keys() == {"person", "l1"}
    world.end("l1")
    assert world.runner().leases.keys() == {"person", "l2"}


def test_on_a_cpu_lines_end_when_somebody_else_is_served() -> None:
    world = World()
    running(world)
    lines(world, "l1", "l2", parallel=4)
    world.ask("person", parallel=4)
    assert "person" in world.granted
    assert world.interrupted.keys() == {"l1", "l2"}
    assert isinstance(world.interrupted["l1"], GaveWay)


def test_a_line_that_began_beside_others_is_let_be() -> None:
    world = World(batch_patience_s=30.0)
    running(world)
    world.ask("p1", parallel=4)
    lines(world, "l1", parallel=4)
    world.wait(31)
    world.ask("p2", parallel=4)
    assert "l1" in world.granted
    assert world.interrupted == {}


def test_of_lines_that_gave_way_often_one_is_let_be() -> None:
    world = World(batch_times=5)
    running(world)
    lines(world, "l1", parallel=4, given_way=4)
    lines(world, "l2", "l3", parallel=4, given_way=5)
    world.ask("person", parallel=4)
    assert world.interrupted.keys() == {"l1", "l3"}


def test_on_a_gpu_the_youngest_line_ends_for_one_who_waits_for_a_slot() -> None:
    world = World(gpu_gib=100.0)
    wish: dict[str, Any] = {"parallel": 4, "gpu": 1.0}
    world.ask("first", **wish)
    world.ready(slots=4)
    world.end("first")
    lines(world, "l1", **wish)
    world.wait(1)
    lines(world, "l2", **wish)
    world.ask("p1", "p2", "p3", **wish)
    assert list(world.interrupted) == ["l2"]
    world.ask("p4", **wish)
    assert list(world.interrupted) == ["l2", "l1"]
    world.end("l2")
    world.end("l1")
    assert {"p1", "p2", "p3", "p4"} <= world.granted.keys()


def test_a_line_that_leaves_is_not_told_again() -> None:
    world = World()
    running(world, slots=1)
    lines(world, "l1")
    world.ask("p1")
    world.interrupted.clear()
    world.ask("p2")
    world.wait(5)
    assert world.interrupted == {}


def test_a_runner_with_lines_only_goes_for_another_model() -> None:
    world = World(max_loaded=1)
    running(world)
    world.wait(60)
    lines(world, "l1", "l2", parallel=4)
    world.ask("person", key="b")
    assert world.interrupted.keys() == {"l1", "l2"}
    world.end("l1")
    world.end("l2")
    assert world.stops[-1] == ("a", "evict")
    world.gone("a")
    world.ready("b")
    assert "person" in world.granted


def test_a_load_that_only_lines_wait_for_is_given_up_for_another_model() -> None:
    world = World(max_loaded=1)
    lines(world, "l1", key="a")
    world.ask("person", key="b")
    assert world.stops[-1] == ("a", "aborted")
    world.gone("a")
    world.ready("b")
    assert "person" in world.granted
    world.end("person")
    world.wait(31)
    world.gone("b")
    assert world.loads[-1].key == "a"
    assert not world.failed


def test_what_others_have_just_used_is_not_evicted_for_a_line() -> None:
    world = World(max_loaded=1, batch_quiet_s=30.0)
    running(world)
    lines(world, "l1", key="b")
    world.wait(20)
    assert world.stops == []
    world.wait(11)
    assert world.stops == [("a", "evict")]


def test_lines_do_not_fill_the_queue_for_others() -> None:
    world = World(max_queue=2)
    running(world, slots=1)
    lines(world, *(f"l{number}" for number in range(5)))
    assert {type(error) for error in world.failed.values()} == {QueueFull} or not world.failed
    world.ask("p1", "p2")
    assert not {"p1", "p2"} & world.failed.keys()
    world.end("l0")
    assert "p1" in world.granted


def test_a_load_for_a_line_displaces_nobody_for_long() -> None:
    world = World(max_loaded=1)
    running(world)
    world.wait(60)
    lines(world, "l1", key="b")
    world.gone("a")
    world.wait(5)
    world.send(Loaded(world.runner("b").id, 4, 4096, 2**30))
    world.ask("person", key="a")
    world.end("l1")
    assert world.stops[-1] == ("b", "evict")


def test_lines_on_another_node_go_on() -> None:
    world = World(clustered=True, max_loaded=1)
    world.join("n1", "n2", gib=100.0)
    lines(world, "l1", key="a", parallel=4)
    world.ready("a")
    world.ask("person", key="b", parallel=4)
    world.ready("b")
    assert {"l1", "person"} <= world.granted.keys()
    assert world.interrupted == {}
    lines(world, "l2", key="a", parallel=4)
    assert "l2" in world.granted


@pytest.mark.parametrize(("left", "nodes"), [(400, {"n1", "n2", "n3"}), (30, {"n1"})])
def test_a_batch_spreads_over_nodes_by_what_is_left_of_it_not_by_the_few_lines_that_are_asked(
    left: int, nodes: set[str]
) -> None:
    world = World(clustered=True, replica_wait_s=10.0)
    world.join("n1", "n2", "n3")
    world.ask("first", parallel=4)
    world.ready(slots=4)
    world.wait(1)
    world.end("first")
    lines(world, *(f"l{number}" for number in range(12)), parallel=4, left=left)
    for number in range(2):
        if any(runner.state == "loading" for runner in world.policy.fleet):
            world.ready(slots=4, after=1)
        world.end(f"l{number}")
    assert {load.node for load in world.loads} == nodes
