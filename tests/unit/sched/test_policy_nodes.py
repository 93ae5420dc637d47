"""Many machines: which one a model is loaded on, a machine that is emptied, and one that is lost."""

from __future__ import annotations

from tests.unit.sched.world import World

from corral.errors import NodeGone, NoNode
from corral.sched.events import Stopped


def cluster(*nodes: str, gib: float = 100.0, **limits: object) -> World:
    world = World(clustered=True, **limits)  # type: ignore[arg-type]
    world.join(*nodes, gib=gib)
    return world


def test_without_a_node_a_request_waits_and_the_first_one_to_join_serves_it() -> None:
    world = World(clustered=True, node_wait_s=30.0)
    world.ask("r")
    world.wait(29.0)
    assert not world.failed
    world.join("n1")
    world.ready()
    assert world.granted["r"]
    assert world.loads[0].node == "n1"


def test_without_a_node_a_request_fails_after_the_wait_and_says_why() -> None:
    world = World(clustered=True, node_wait_s=30.0)
    world.ask("r")
    world.wait(31.0)
    assert isinstance(world.failed["r"], NoNode)
    assert "no node of the cluster takes loads; waited 30 s" in str(world.failed["r"])


def test_a_model_goes_where_its_blob_is() -> None:
    world = cluster("n1")
    world.join("n2", blobs={"digest-a"})
    world.join("n3")
    world.ask("r")
    assert world.loads[0].node == "n2"


def test_a_model_goes_where_there_is_room_and_a_busy_node_is_left_alone() -> None:
    world = cluster("n1", gib=4.0)
    world.join("n2", gib=100.0)
    world.ask("r", gib=20.0)
    assert world.loads[0].node == "n2"


def test_max_loaded_counts_for_each_node() -> None:
    world = cluster("n1", "n2", max_loaded=1)
    world.ask("r1", key="a")
    world.ask("r2", key="b")
    assert sorted(load.node for load in world.loads) == ["n1", "n2"]


def test_a_model_that_no_node_could_ever_hold_is_refused() -> None:
    world = cluster("n1", "n2", gib=4.0)
    world.ask("r", gib=20.0)
    assert "r" in world.failed


def test_a_lost_node_takes_its_runners_and_waiting_requests_go_elsewhere() -> None:
    world = cluster("n1", "n2", max_loaded=1)
    world.ask("runs", "waits")
    world.ready()
    lost = world.runner().node
    world.lose(lost)
    assert isinstance(world.interrupted["runs"], NodeGone)
    assert lost in str(world.interrupted["runs"])
    assert world.on(lost) == []
    world.end("runs")
    world.ready()
    assert world.granted["waits"] == world.runner().id
    assert world.runner().node != lost


def test_a_loss_while_loading_loads_elsewhere_and_counts_as_no_failure() -> None:
    world = cluster("n1", "n2", "n3", breaker_failures=2)
    world.ask("r")
    for _ in range(2):
        world.lose(world.runner().node)
    world.ready()
    assert "r" in world.granted


def test_what_a_lost_node_says_later_is_about_nothing() -> None:
    world = cluster("n1", "n2")
    world.ask("r")
    gone = world.runner()
    world.lose(gone.node)
    world.send(Stopped(gone.id))
    assert len(list(world.policy.fleet)) == 1


def test_a_draining_node_takes_no_load_ends_what_runs_and_is_empty_then() -> None:
    world = cluster("n1", max_loaded=1)
    world.ask("r")
    world.ready()
    world.drain("n1")
    assert not world.stops
    world.join("n2")
    world.ask("later", key="b")
    assert world.loads[-1].node == "n2"
    world.end("r")
    assert world.stops == [("a", "expire")]


def test_a_drained_node_that_joins_again_takes_loads_again() -> None:
    world = cluster("n1")
    world.drain("n1")
    world.ask("r")
    assert not world.loads
    world.join("n1")
    assert world.loads[0].node == "n1"
