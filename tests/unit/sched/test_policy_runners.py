"""Which runners exist: keep_alive, eviction, swapping between models."""

from __future__ import annotations

import math

import pytest
from tests.unit.sched.world import World

# ---- keep_alive


def test_an_idle_runner_goes_when_its_keep_alive_has_run_out() -> None:
    world = World(keep_alive_s=300.0)
    world.serve()
    world.wait(299.0)
    assert world.stops == []
    world.wait(2.0)
    assert world.stops == [("a", "expire")]


def test_a_busy_runner_does_not_expire_and_the_timer_restarts_when_it_is_idle_again() -> None:
    world = World(keep_alive_s=10.0)
    world.serve()
    world.ask("long")
    world.wait(100.0)
    assert world.stops == []
    world.end("long")
    world.wait(9.0)
    assert world.stops == []
    world.wait(2.0)
    assert world.stops == [("a", "expire")]


def test_absent_keep_alive_leaves_the_loaded_runners_value() -> None:
    world = World(keep_alive_s=300.0)
    world.serve(keep_alive_s=5.0)
    world.serve()
    world.wait(6.0)
    assert world.stops == [("a", "expire")]


def test_every_request_that_carries_keep_alive_overwrites_it() -> None:
    world = World(keep_alive_s=300.0)
    world.serve(keep_alive_s=5.0)
    world.serve(keep_alive_s=math.inf)
    world.wait(1e9)
    assert world.stops == []


def test_keep_alive_zero_unloads_once_the_last_request_has_ended() -> None:
    world = World()
    world.ask("r1", "r2", parallel=2, keep_alive_s=0.0)
    world.ready()
    world.end("r1")
    assert world.stops == []
    world.end("r2")
    assert world.stops == [("a", "expire")]


@pytest.mark.parametrize(("asked", "kept"), [(0.0, 60.0), (math.inf, 600.0), (100.0, 100.0)])
def test_the_operators_floor_and_ceiling_bound_what_a_request_may_ask(asked: float, kept: float) -> None:
    world = World(keep_alive_min_s=60.0, keep_alive_max_s=600.0)
    world.serve(keep_alive_s=asked)
    assert world.runner().keep_alive_s == kept


def test_a_pinned_model_outlives_keep_alive_and_eviction() -> None:
    world = World(pinned=frozenset({"a:latest"}), max_loaded=2)
    world.serve("a", keep_alive_s=0.0)
    world.serve("b")
    world.now += 1.0
    world.ask("r", key="c")
    assert world.stops == [("b", "evict")]
    world.wait(1000.0)
    assert ("a", "expire") not in world.stops


def test_unload_of_an_idle_runner_stops_it_at_once_and_of_none_does_nothing() -> None:
    world = World()
    world.unload("a")
    world.serve("a")
    world.unload("a")
    assert world.stops == [("a", "expire")]


def test_unload_of_a_busy_runner_waits_for_its_requests_and_its_queue() -> None:
    world = World()
    world.ask("r1", "r2")
    world.ready()
    world.now = 50.0
    world.unload()
    assert world.stops == []
    assert world.runner().expires_at(70.0) == 50.0  # the time of the unload request (spec 1.6)
    world.end("r1")
    assert "r2" in world.granted
    world.end("r2")
    assert world.stops == [("a", "expire")]


def test_expires_at_counts_from_the_last_idle_moment_and_is_not_refreshed_while_busy() -> None:
    world = World(keep_alive_s=300.0)
    world.ask("r1")
    world.ready(after=1.0)
    assert world.runner().expires_at(20.0) == 320.0  # never idle: now + keep_alive
    world.now = 20.0
    world.end("r1")
    world.now = 30.0
    world.ask("r2")
    assert world.runner().expires_at(40.0) == 320.0


def test_a_load_whose_waiter_left_in_the_same_moment_still_expires() -> None:
    world = World(keep_alive_s=5.0)
    world.ask("r1")
    world.ready()
    world.end("r1")
    world.wait(6.0)
    assert world.stops == [("a", "expire")]


# ---- room for another model


def test_only_the_longest_unused_idle_runner_is_evicted() -> None:
    world = World(max_loaded=3)
    for key in ("a", "b", "c"):
        world.serve(key)
        world.now += 1.0
    world.serve("a")
    world.ask("r", key="d")
    assert world.stops == [("b", "evict")]
    world.gone("b")
    assert world.loads[-1].key == "d"


def test_a_busy_runner_is_never_evicted() -> None:
    world = World(max_loaded=1, turn_s=10.0)
    world.ask("busy", key="a")
    world.ready("a")
    world.ask("r", key="b")
    world.wait(1000.0)
    assert world.stops == []
    world.end("busy")
    assert world.stops == [("a", "evict")]


def test_an_eviction_under_way_is_not_followed_by_a_second_one() -> None:
    world = World(max_loaded=2)
    world.serve("a")
    world.serve("b")
    world.ask("r1", "r2", key="c")
    world.ask("r3", key="c")
    assert len(world.stops) == 1


def test_a_request_for_the_model_being_evicted_waits_until_it_is_gone_and_loads_it_again() -> None:
    world = World(max_loaded=1)
    world.serve("a")
    world.ask("b1", key="b")
    world.ask("a1", key="a")
    assert "a1" not in world.granted
    world.gone("a")
    assert world.loads[-1].key == "b"
    world.ready("b")
    world.end("b1")
    world.wait(10.0)
    world.gone("b")
    world.ready("a")
    assert "a1" in world.granted


def test_alternating_requests_are_grouped_by_the_loaded_model() -> None:
    world = World(max_loaded=1)
    for turn in range(5):
        world.ask(f"a{turn}", key="a")
        world.ask(f"b{turn}", key="b")
    world.ready("a")
    while len(world.granted) < 5:
        world.end(list(world.granted)[-1])
    world.end(list(world.granted)[-1])
    world.gone("a")
    world.ready("b")
    while len(world.granted) < 10:
        world.end(list(world.granted)[-1])
    assert [load.key for load in world.loads] == ["a", "b"]


def test_a_model_with_endless_requests_gives_way_after_its_turn() -> None:
    world = World(max_loaded=1, turn_s=10.0)
    world.ask("a0", key="a")
    world.ready("a")
    world.ask("b0", key="b")
    for turn in range(1, 30):
        world.ask(f"a{turn}", key="a")
        world.wait(1.0)
        world.end(list(world.granted)[-1])
        if world.stops:
            break
    assert world.stops == [("a", "evict")]
    assert world.now <= 12.0


def test_a_runner_that_is_never_idle_gives_way_after_its_turn_too() -> None:
    world = World(max_loaded=1, turn_s=10.0)
    world.ask("a0", "a1", key="a", parallel=2)
    world.ready("a")
    world.ask("b0", key="b")
    for turn in range(2, 40):  # a new request comes before one of the two leases ends: no moment without a lease
        world.ask(f"a{turn}", key="a", parallel=2)
        world.wait(1.0)
        held = list(world.runner("a").leases)
        if not held:
            break
        world.end(held[0])
    assert world.stops == [("a", "evict")]
    world.gone("a")
    world.ready("b")
    assert "b0" in world.granted


def test_a_model_that_just_got_its_place_keeps_it_for_a_turn_however_overdue_others_are() -> None:
    world = World(max_loaded=1, turn_s=10.0)
    world.ask("a0", "a1", key="a")
    world.ask("b0", "b1", key="b")
    world.now = 100.0  # a very slow load: everybody is overdue
    world.ready("a")
    world.end("a0")
    assert "a1" in world.granted


def test_sequential_alternation_leaves_a_displacing_model_some_time() -> None:
    world = World(max_loaded=1)
    world.serve("a")
    world.ask("b1", key="b")
    world.gone("a")
    world.ready("b", after=3.0)
    world.end("b1")
    world.ask("a1", key="a")
    assert len(world.stops) == 1  # b displaced a and took 3 s to load: it stays for 6 s
    world.ask("b2", key="b")
    assert "b2" in world.granted
    world.end("b2")
    world.wait(6.0)
    assert world.stops[-1] == ("b", "evict")


def test_a_small_model_does_not_slip_in_for_ever_before_an_overdue_large_one() -> None:
    world = World(max_loaded=3, free_gib=1.0, turn_s=10.0)
    world.ask("hold", key="a", gib=1.0)
    world.ready("a", gib=1.0)
    world.free_gib = 0.4
    world.ask("large", key="large", gib=1.2)
    world.wait(11.0)
    world.ask("small", key="small", gib=0.3)
    assert [load.key for load in world.loads] == ["a"]
    world.end("hold")
    assert world.stops == [("a", "evict")]
    world.free_gib = 1.4
    world.gone("a")
    assert world.loads[1].key == "large"


# ---- loading anew


def test_an_idle_runner_is_loaded_anew_and_expires_when_it_would_have() -> None:
    world = World(keep_alive_s=300.0)
    world.serve(parallel=2)
    former = world.runner()
    world.wait(100.0)
    world.renew()
    assert world.stops == [("a", "renew")]
    world.gone("a")
    assert [load.spec for load in world.loads] == [former.spec] * 2
    world.ready(after=3.0)
    assert world.runner().id != former.id
    assert (world.runner().slots, world.runner().state) == (2, "ready")
    world.wait(196.0)
    assert world.stops[1:] == []
    world.wait(2.0)
    assert world.stops[1:] == [("a", "expire")]


def test_a_runner_in_use_is_not_loaded_anew() -> None:
    world = World()
    world.serve()
    world.ask("r")
    world.renew()
    assert world.stops == []


def test_nothing_is_loaded_anew_while_somebody_waits() -> None:
    world = World(max_loaded=2)
    world.serve()
    world.ask("b", key="b")  # loading
    world.renew()
    assert world.stops == []


def test_a_request_that_comes_meanwhile_gets_the_new_runner() -> None:
    world = World()
    world.serve()
    world.renew()
    world.gone("a")
    world.ask("r")
    world.ready()
    assert world.granted["r"] == world.runner().id
    assert len(world.loads) == 2


@pytest.mark.parametrize("key", ["a", "b"])
def test_a_request_that_comes_while_the_former_runner_goes_has_its_own_load(key: str) -> None:
    world = World(max_loaded=1)
    world.serve()
    world.renew()
    world.ask("r", key=key)
    world.gone("a")
    assert [load.key for load in world.loads] == ["a", key]
    world.ready(key)
    assert "r" in world.granted


def test_a_load_anew_outlives_a_request_that_gave_up() -> None:
    world = World()
    world.serve()
    world.renew()
    world.gone("a")
    world.ask("r")
    world.end("r")
    assert world.stops == [("a", "renew")]


def test_an_unload_wins_over_a_load_anew() -> None:
    world = World()
    world.serve()
    world.renew()
    world.unload()
    world.gone("a")
    assert not world.has_runner("a")


def test_a_shutdown_wins_over_a_load_anew() -> None:
    world = World()
    world.serve()
    world.renew()
    world.shut_down()
    world.gone("a")
    assert not world.has_runner("a")
