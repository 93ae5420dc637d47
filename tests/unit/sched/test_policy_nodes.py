"""Many machines: which one a model is loaded on, a machine that is emptied, and one that is lost."""

from __future__ import annotations

import pytest
from tests.unit.sched.world import World

from corral.config import Settings
from corral.errors import NodeGone, NoNode
from corral.sched.events import LoadFailed, NodeReported, Stopped
from corral.sched.state import limits_of


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
    world.join("n2", blobs={"a"})
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


def test_a_long_queue_gets_one_more_runner_on_another_node_which_goes_when_idle() -> None:
    world = cluster("n1", "n2", replica_wait_s=4.0, replica_idle_s=60.0, keep_alive_s=300.0)
    world.ask("r1", "r2")
    world.ready()
    assert len(world.loads) == 2
    assert {load.node for load in world.loads} == {"n1", "n2"}
    world.ready()
    assert set(world.granted) == {"r1", "r2"}
    world.end("r1", "r2")
    world.wait(61.0)
    assert world.stops == [("a", "expire")]
    world.wait(240.0)
    assert world.stops == [("a", "expire")] * 2


def test_one_machine_never_has_two_runners_of_a_model() -> None:
    world = World(replica_wait_s=0.1)
    world.ask(*(f"r{number}" for number in range(20)))
    world.ready()
    assert len(world.loads) == 1


def test_of_two_runners_the_one_that_has_read_the_beginning_is_asked_first() -> None:
    world = cluster("n1", "n2", replica_wait_s=1.0)
    world.ask("r1", "r2", parallel=1, prefixes=("talk",))
    world.ready()
    world.ask("r3", prefixes=("other",))
    world.ready()
    reader, other = world.granted["r1"], world.runner().id
    assert world.granted["r2"] == other
    world.end("r1", "r2", "r3")
    for number in range(6):
        name = f"again{number}"
        world.ask(name, prefixes=(("talk", "other")[number % 2],))
        world.end(name)
    talks = {world.granted[f"again{number}"] for number in (0, 2, 4)}
    others = {world.granted[f"again{number}"] for number in (1, 3, 5)}
    assert len(talks) == len(others) == 1
    assert {reader, other} >= talks | others


def test_without_a_beginning_the_least_loaded_runner_is_asked() -> None:
    world = cluster("n1", "n2", replica_wait_s=1.0)
    world.ask("r1", "r2", "r3", parallel=2)
    world.ready()
    world.ready()
    assert sorted(world.granted.values()) == [1, 1, 2]
    world.ask("r4")
    assert world.granted["r4"] == 2


@pytest.mark.parametrize(("spread", "nodes"), [(True, ["n1", "n2"]), (False, ["n1", "n1"])])
def test_models_are_spread_or_packed_as_the_setting_says(spread: bool, nodes: list[str]) -> None:
    world = cluster("n1", "n2", spread=spread)
    world.ask("r1", key="a")
    world.ready("a")
    world.ask("r2", key="b")
    assert [load.node for load in world.loads] == nodes


def test_a_pinned_model_is_loaded_on_its_nodes_only_and_waits_for_them() -> None:
    world = cluster("n1", places_of={"a:latest": frozenset({"n2"})}, node_wait_s=30.0)
    world.ask("r")
    assert not world.loads
    world.join("n2")
    assert world.loads[0].node == "n2"


def test_a_pinned_model_whose_nodes_never_come_is_refused_with_their_names() -> None:
    world = cluster("n1", places_of={"a:latest": frozenset({"n2"})}, node_wait_s=30.0)
    world.ask("r")
    world.wait(31.0)
    assert "none of the nodes n2 of the cluster takes loads" in str(world.failed["r"])


def test_settings_name_the_nodes_of_models() -> None:
    settings = Settings.from_env(
        {"CORRAL_CLUSTER_PIN": "llama3=n1, llama3=n2,b:7b=n3", "CORRAL_CLUSTER_PLACEMENT": "pack"}
    )
    limits = limits_of(settings)
    assert limits.places_of == {"llama3:latest": frozenset({"n1", "n2"}), "b:7b": frozenset({"n3"})}
    assert not limits.spread


def test_a_node_that_a_handle_finds_gone_gets_no_load_until_it_reports() -> None:
    world = cluster("n1")
    world.ask("r")
    world.send(LoadFailed(world.runner().id, NodeGone("n1")))
    assert len(world.loads) == 1
    assert not world.failed
    world.send(NodeReported("n1", world.figures("n1")))
    assert len(world.loads) == 2
