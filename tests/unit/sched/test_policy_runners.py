"""Which runners exist: keep_alive, eviction, swapping between models, reloads, memory, crashes and the breaker."""

from __future__ import annotations

import math

import pytest
from tests.unit.sched.world import ALL_AUTOMATIC, World

from corral.errors import NotEnoughMemory, RunnerFailedToStart, RunnerHung
from corral.sched.events import RunnerReported

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


# ---- memory


def test_a_model_that_fits_beside_the_others_evicts_nobody() -> None:
    world = World(free_gib=8.0)
    world.serve("a", gib=2.0)
    world.ask("r", key="b", gib=3.0)
    assert world.stops == []
    assert world.loads[-1].key == "b"


def test_as_few_runners_as_needed_are_evicted_for_memory() -> None:
    world = World(free_gib=100.0, max_loaded=9)
    for key in ("a", "b", "c"):
        world.serve(key, gib=2.0)
        world.now += 10.0
    world.free_gib = 1.0
    world.ask("r", key="d", gib=4.0)
    assert world.stops == [("a", "evict"), ("b", "evict")]


def test_memory_is_read_again_after_an_eviction_before_the_load() -> None:
    world = World(free_gib=100.0, max_loaded=9)
    world.serve("a", gib=2.0)
    world.now += 10.0
    world.free_gib = 1.0
    world.ask("r", key="b", gib=2.5)
    assert [load.key for load in world.loads] == ["a"]
    world.free_gib = 3.0
    world.gone("a")
    assert world.loads[-1].key == "b"


def test_two_loads_at_once_do_not_count_on_the_same_free_memory() -> None:
    world = World(free_gib=5.0, max_loaded=9)
    world.ask("r1", key="a", gib=3.0)
    world.ask("r2", key="b", gib=3.0)
    assert [load.key for load in world.loads] == ["a"]


def test_fewer_slots_are_tried_before_anything_is_evicted() -> None:
    world = World(free_gib=100.0)
    world.serve("idle", gib=1.0)
    world.now += 10.0
    world.free_gib = 3.0
    world.ask("r", key="b", gib=1.0, parallel=4, context_window=4096, per_token=2**18)  # 1 GiB a slot
    assert world.loads[-1].spec.num_parallel == 2
    assert world.stops == []


def test_an_explicit_number_of_slots_is_not_lowered() -> None:
    world = World(free_gib=3.0)
    chosen = ALL_AUTOMATIC - {"num_parallel"}
    world.ask("r", key="b", gib=1.0, parallel=4, per_token=2**18, automatic=chosen)
    assert isinstance(world.failed["r"], NotEnoughMemory)


def test_an_automatic_window_shrinks_when_nothing_is_left_to_evict_and_the_holder_is_told() -> None:
    world = World(free_gib=3.0)
    world.ask("r", key="b", gib=1.0, context_window=32768, per_token=2**18)
    assert world.loads[-1].spec.context_window == 4096
    world.ready("b")
    grant = next(action for action in world.log if getattr(action, "notices", ()))
    assert grant.notices[0].facts == {"planned": 32768, "num_ctx": 4096}  # type: ignore[union-attr]
    world.ask("again", key="b", gib=1.0, context_window=32768, per_token=2**18)
    world.end("r")
    assert "again" in world.granted  # what we lowered ourselves is no reason to reload


def test_a_model_that_cannot_fit_fails_at_once_with_both_numbers_and_advice() -> None:
    world = World(free_gib=2.0)
    world.ask("r1", "r2", key="big", gib=30.0)
    error = world.failed["r1"]
    assert isinstance(error, NotEnoughMemory)
    assert error.need_bytes > error.free_bytes == 2 * 2**30
    assert "quantization" in str(error)
    assert "r2" in world.failed
    assert world.loads == []


def test_a_model_that_cannot_fit_does_not_evict_others_first() -> None:
    world = World(free_gib=100.0)
    world.serve("a", gib=1.0)
    world.now += 10.0
    world.free_gib = 2.0
    world.ask("r", key="big", gib=30.0)
    assert isinstance(world.failed["r"], NotEnoughMemory)
    assert world.stops == []


def test_only_pinned_models_loaded_is_an_error_and_no_endless_wait() -> None:
    world = World(max_loaded=1, pinned=frozenset({"a:latest"}))
    world.serve("a")
    world.ask("r", key="b")
    assert "pinned" in str(world.failed["r"])


def test_a_load_out_of_memory_is_tried_once_more_with_less_and_alone() -> None:
    world = World(max_loaded=9)
    world.serve("idle")
    world.ask("r", key="b", parallel=4, context_window=32768)
    world.load_fails("b", out_of_memory=True)
    assert world.stops == [("idle", "memory")]
    assert len(world.loads) == 2
    world.gone("idle")
    assert world.loads[-1].spec.context_window == 4096
    assert world.loads[-1].spec.num_parallel == 1
    world.load_fails("b", out_of_memory=True)
    assert isinstance(world.failed["r"], RunnerFailedToStart)
    assert len(world.loads) == 3


def test_out_of_memory_with_everything_explicit_and_nothing_to_evict_fails_at_once() -> None:
    world = World()
    world.ask("r", key="b", automatic=frozenset())
    world.load_fails("b", out_of_memory=True)
    assert "r" in world.failed


# ---- reload


def test_a_changed_option_reloads_once_the_runner_is_idle() -> None:
    world = World()
    world.ask("r1")
    world.ready()
    world.ask("r2", context_window=8192, automatic=ALL_AUTOMATIC - {"context_window"})
    assert world.stops == []
    world.end("r1")
    assert world.stops == [("a", "reload")]
    world.gone("a")
    assert world.loads[-1].spec.context_window == 8192
    world.ready()
    assert "r2" in world.granted


def test_a_runner_asked_to_reload_is_not_kept_by_compatible_requests_for_ever() -> None:
    world = World(turn_s=10.0)
    world.ask("a0")
    world.ready()
    world.ask("other", context_window=8192, automatic=ALL_AUTOMATIC - {"context_window"})
    for turn in range(1, 30):
        world.ask(f"a{turn}")
        world.wait(1.0)
        world.end(list(world.granted)[-1])
        if world.stops:
            break
    assert world.stops == [("a", "reload")]


def test_automatic_fields_do_not_reload() -> None:
    world = World()
    world.serve(context_window=32768)
    world.ask("r", context_window=4096, n_batch=32)
    assert "r" in world.granted


# ---- failures


def test_a_failed_load_fails_all_who_waited_for_it_with_its_last_words() -> None:
    world = World()
    world.ask("r1", "r2")
    world.load_fails()
    assert {str(error) for error in world.failed.values()} == {
        "llama-server process has terminated: exit status 1: bad tensor"
    }
    assert set(world.failed) == {"r1", "r2"}


def test_a_failed_load_does_not_fail_requests_that_need_another_spec() -> None:
    world = World()
    world.ask("r1")
    world.ask("r2", context_window=8192, automatic=ALL_AUTOMATIC - {"context_window"})
    world.load_fails()
    assert set(world.failed) == {"r1"}
    assert world.loads[-1].spec.context_window == 8192


def test_waiting_requests_get_a_fresh_runner_after_a_crash() -> None:
    world = World()
    world.ask("served", "waiting")
    world.ready()
    world.dies()
    assert "served" in world.interrupted
    assert len(world.loads) == 2
    world.end("served")
    world.ready()
    assert "waiting" in world.granted


def test_a_lease_of_a_dead_runner_does_not_free_a_slot_of_its_successor() -> None:
    world = World()
    world.ask("old")
    world.ready()
    world.dies()
    world.ask("new", "next")
    world.ready()
    world.end("old")
    assert "next" not in world.granted


def test_a_late_event_about_a_former_runner_does_not_touch_the_present_one() -> None:
    world = World()
    world.serve()
    former = world.runner().id
    world.unload()
    world.gone("a")
    world.ask("r")
    world.send(RunnerReported(former, RunnerHung(30.0)))
    world.ready()
    assert "r" in world.granted


def test_a_crash_while_idle_is_no_failure_of_the_model() -> None:
    world = World(breaker_failures=1)
    world.serve()
    world.dies()
    world.ask("r")
    world.ready()
    assert "r" in world.granted


def test_a_reported_hang_stops_the_runner_and_the_waiting_get_another() -> None:
    world = World()
    world.ask("hung", "waiting")
    world.ready()
    world.send(RunnerReported(world.runner().id, RunnerHung(30.0)))
    world.end("hung")
    assert world.stops == [("a", "failed")]
    assert "waiting" not in world.granted
    world.gone("a")
    world.ready()
    assert "waiting" in world.granted


def test_a_crash_loop_opens_the_circuit_and_says_the_last_words() -> None:
    world = World(breaker_failures=3, breaker_cooldown_s=15.0)
    for turn in range(3):
        world.ask(f"r{turn}")
        world.load_fails(text="bad magic")
    world.ask("refused")
    assert len(world.loads) == 3
    assert "bad magic" in str(world.failed["refused"])
    assert "3 times" in str(world.failed["refused"])


def test_crashes_while_serving_open_the_circuit_for_those_who_wait() -> None:
    world = World(breaker_failures=2)
    world.ask("r0", "r1", "r2")
    world.ready()
    world.dies()
    world.ready()
    world.dies()
    assert "r2" in world.failed
    assert len(world.loads) == 2


def test_a_half_open_circuit_tries_one_load_and_closes_when_it_serves() -> None:
    world = World(breaker_failures=2, breaker_cooldown_s=15.0)
    for turn in range(2):
        world.ask(f"r{turn}")
        world.load_fails()
    world.now += 16.0
    world.serve()
    world.unload()
    world.gone("a")
    world.ask("once")
    world.load_fails()
    world.ask("again")
    assert "again" not in world.failed


def test_a_failure_while_half_open_opens_again_for_longer() -> None:
    world = World(breaker_failures=2, breaker_cooldown_s=15.0)
    for turn in range(2):
        world.ask(f"r{turn}")
        world.load_fails()
    world.now += 16.0
    world.ask("probe")
    world.load_fails()
    world.now += 16.0
    world.ask("refused")
    assert "refused" in world.failed
    world.now += 15.0
    world.ask("second-probe")
    assert world.has_runner("a")


def test_failures_far_apart_do_not_open_the_circuit() -> None:
    world = World(breaker_failures=2, breaker_window_s=60.0)
    for turn in range(5):
        world.ask(f"r{turn}")
        world.load_fails()
        world.now += 61.0
    assert len(world.loads) == 5


def test_another_models_circuit_is_its_own() -> None:
    world = World(breaker_failures=1)
    world.ask("r1", key="bad")
    world.load_fails("bad")
    world.ask("r2", key="good")
    world.ready("good")
    assert "r2" in world.granted
