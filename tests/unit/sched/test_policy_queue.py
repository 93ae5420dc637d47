"""Who is served when: loading on demand, slots, the bound of the queue, fairness between clients and priorities."""

from __future__ import annotations

import pytest
from tests.unit.sched.world import World

from corral.errors import QueueFull, RequestCanceled, ServerClosing
from corral.sched.events import Translating


def test_first_request_loads_and_is_granted_once_the_runner_is_ready() -> None:
    world = World()
    world.ask("r1")
    assert [load.key for load in world.loads] == ["a"]
    assert world.granted == {}
    world.ready()
    assert world.granted == {"r1": world.runner().id}


def test_requests_for_a_loading_model_do_not_load_it_twice() -> None:
    world = World()
    world.ask("r1", "r2", "r3", parallel=4)
    assert len(world.loads) == 1
    world.ready()
    assert list(world.granted) == ["r1", "r2", "r3"]


def test_no_more_grants_than_slots_and_the_next_when_one_is_free() -> None:
    world = World()
    world.ask("r1", "r2", "r3", parallel=2)
    world.ready()
    assert list(world.granted) == ["r1", "r2"]
    world.end("r1")
    assert list(world.granted) == ["r1", "r2", "r3"]


def test_the_engines_own_slot_count_wins_over_the_planned_one() -> None:
    world = World()
    world.ask("r1", "r2", parallel=4)
    world.ready(slots=1)
    assert list(world.granted) == ["r1"]


def test_a_lease_of_several_slots_takes_what_is_free_and_gives_all_back() -> None:
    world = World()
    world.ask("r1", parallel=4)
    world.ready()
    world.ask("batch", parallel=4, slots=8)
    assert world.runner().leases["batch"].slots == 3
    world.ask("r2", parallel=4)
    assert "r2" not in world.granted
    world.end("batch")
    assert "r2" in world.granted
    assert world.runner().free_slots == 2


def test_the_bound_counts_waiting_for_a_load_and_for_a_slot_together() -> None:
    world = World(max_queue=3, max_loaded=1)
    world.serve("a")
    world.ask("running", key="a")
    world.ask("slot", key="a")
    world.ask("load1", "load2", key="b")
    world.ask("refused-slot", key="a")
    world.ask("refused-load", key="b")
    assert set(world.failed) == {"refused-slot", "refused-load"}
    error = world.failed["refused-slot"]
    assert isinstance(error, QueueFull)
    assert 1 <= error.retry_after_s <= 60


def test_a_full_queue_does_not_refuse_a_request_that_need_not_wait() -> None:
    world = World(max_queue=1, max_loaded=2)
    world.serve("a")
    world.ask("waits", key="b")
    world.ask("at-once", key="a")
    assert "at-once" in world.granted
    assert world.failed == {}


def test_a_refused_request_leaves_nothing_behind() -> None:
    world = World(max_queue=1)
    world.ask("r1", "r2")
    assert "r2" in world.failed
    world.end("r2")
    world.ready()
    assert list(world.granted) == ["r1"]
    world.end("r1")
    assert world.runner().is_idle


def test_a_waiter_that_leaves_the_queue_is_never_granted() -> None:
    world = World()
    world.ask("r1", "r2")
    world.ready()
    world.end("r2")
    world.end("r1")
    assert "r2" not in world.granted
    assert world.runner().is_idle


def test_leaving_at_the_moment_of_the_grant_gives_the_slot_back() -> None:
    world = World()
    world.ask("r1", "r2")
    world.ready()  # r1 is granted; its client leaves before it hears of it: the same event as the end of a lease
    world.end("r1")
    assert world.runner().leases.keys() == {"r2"}


def test_ending_twice_does_not_free_two_slots() -> None:
    world = World()
    world.ask("r1", "r2", "r3")
    world.ready()
    world.end("r1", "r1")
    assert list(world.granted) == ["r1", "r2"]


def test_a_load_that_nobody_waits_for_any_more_is_given_up() -> None:
    world = World()
    world.ask("r1", "r2")
    world.end("r1")
    assert world.stops == []
    world.end("r2")
    assert world.stops == [("a", "aborted")]


def test_ready_after_an_abort_grants_nothing_and_the_next_request_loads_anew() -> None:
    world = World()
    world.ask("r1")
    world.end("r1")
    aborted = world.runner()
    world.ask("r2")
    world.ready()  # the event was under way when the abort was decided
    assert world.granted == {}
    world.gone("a")
    assert world.runner().id != aborted.id
    world.ready()
    assert list(world.granted) == ["r2"]


def test_cancel_by_id_while_queued_fails_the_request_with_its_own_error() -> None:
    world = World()
    world.ask("r1", "r2")
    world.ready()
    world.cancel("r2")
    assert isinstance(world.failed["r2"], RequestCanceled)
    world.end("r2", "r1")
    assert world.runner().is_idle


def test_cancel_by_id_while_running_interrupts_and_keeps_the_slot_until_the_holder_has_left() -> None:
    world = World()
    world.ask("r1", "r2")
    world.ready()
    world.cancel("r1")
    assert isinstance(world.interrupted["r1"], RequestCanceled)
    assert "r2" not in world.granted
    world.end("r1")
    assert "r2" in world.granted


def test_cancel_of_the_only_waiter_gives_its_load_up() -> None:
    world = World()
    world.ask("r1")
    world.cancel("r1")
    assert world.stops == [("a", "aborted")]


def test_cancel_of_an_unknown_request_does_nothing() -> None:
    world = World()
    world.cancel("nobody")
    assert world.log == []


def test_one_request_of_a_second_client_is_not_behind_the_first_ones_hundred() -> None:
    world = World()
    world.ask(*(f"flood{n}" for n in range(100)), client="loud")
    world.ready()
    world.ask("single", client="quiet")
    world.end("flood0")
    world.end(*[name for name in world.granted if name != "flood0"])
    assert list(world.granted).index("single") <= 2


def test_clients_take_turns_whatever_they_queued() -> None:
    world = World()
    world.ask("a1", "a2", "a3", client="a")
    world.ask("b1", "b2", "b3", client="b")
    world.ready()
    for _ in range(5):
        world.end(list(world.granted)[-1])
    assert list(world.granted) == ["a1", "b1", "a2", "b2", "a3", "b3"]


def test_a_stream_of_new_clients_cannot_pass_one_that_waits_for_ever() -> None:
    world = World()
    world.ask("h0", client="heavy")
    world.ready()
    world.ask("h1", "h2", client="heavy")
    for turn in range(20):
        world.ask(f"n{turn}", client=f"new{turn}")
        world.end(list(world.granted)[-1])
    assert {"h1", "h2"} <= set(list(world.granted)[:6])


def test_leaving_the_queue_is_no_turn() -> None:
    world = World()
    world.ask("running", client="other")
    world.ready()
    world.ask(*(f"gone{n}" for n in range(10)), "stays", client="fickle")
    world.end(*(f"gone{n}" for n in range(10)))
    world.ask("later", client="new")
    world.end("running")
    assert list(world.granted) == ["running", "stays"]


def test_interactive_goes_before_background() -> None:
    world = World()
    world.ask("running")
    world.ready()
    world.ask("bulk", priority="background")
    world.ask("chat", client="d")
    world.end("running")
    assert list(world.granted) == ["running", "chat"]


def test_background_is_not_starved_by_interactive_requests() -> None:
    world = World(background_patience_s=20.0)
    world.ask("running")
    world.ready()
    world.ask("bulk", priority="background", client="b")
    for turn in range(30):
        world.ask(f"chat{turn}", client="i")
        world.wait(1.0)
        world.end(list(world.granted)[-1])
    assert "bulk" in world.granted
    assert list(world.granted).index("bulk") <= 23


def test_positions_and_waits_are_told_and_change_as_the_line_moves() -> None:
    world = World()
    world.ask("r1", "r2", "r3", on_progress=lambda progress: None)
    assert [(p.stage, p.position) for p in world.told["r1"]][-1] == ("loading", 1)
    assert [(p.stage, p.position) for p in world.told["r3"]] == [("queued", 3)]
    assert world.told["r3"][0].wait_s > world.told["r1"][0].wait_s
    world.ready()
    world.end("r1")
    assert [p.position for p in world.told["r3"]] == [3, 2, 1]


def test_a_place_that_has_not_changed_is_not_told_again() -> None:
    world = World()
    world.ask("r1", "r2", on_progress=lambda progress: None)
    world.wait(60.0)
    assert len(world.told["r2"]) == 1


def test_a_translation_is_told_as_it_goes_to_those_who_will_be_served_by_it() -> None:
    world = World()
    world.ask("r1", "r2", parallel=1, on_progress=lambda progress: None)
    for processed in (0, 500, 500, 1500):
        world.send(Translating(world.runner().id, processed, 1500))
    assert [(p.stage, p.processed, p.total) for p in world.told["r1"]][-4:] == [
        ("loading", 0, 0),
        ("translating", 0, 1500),
        ("translating", 500, 1500),
        ("loading", 0, 0),
    ]
    assert {p.stage for p in world.told["r2"]} == {"queued"}


def test_a_translation_is_no_part_of_what_a_load_is_known_to_take() -> None:
    world = World()
    world.ask("r1", "r2", "r3", parallel=1)
    world.now += 600.0
    world.send(Translating(world.runner().id, 1500, 1500))
    world.ready(after=2.0)
    assert world.runner().ready_at - world.runner().load_started == 2.0


def test_progress_of_a_runner_that_is_gone_is_no_error() -> None:
    World().send(Translating(7, 1, 2))


def test_the_estimated_wait_follows_measured_times() -> None:
    world = World()
    world.ask("r1", "r2", "r3")
    world.ready(after=2.0)
    world.now += 40.0
    world.end("r1")
    place = next(place for place in world.policy.line(world.now) if place.waiter.id == "r3")
    assert place.progress.wait_s == pytest.approx(40.0)


def test_closing_fails_the_queue_and_lets_running_requests_end() -> None:
    world = World()
    world.ask("r1", "r2")
    world.ready()
    world.shut_down()
    assert isinstance(world.failed["r2"], ServerClosing)
    assert world.stops == []
    world.ask("late")
    assert isinstance(world.failed["late"], ServerClosing)
    world.end("r1")
    assert world.stops == [("a", "expire")]


def test_closing_by_force_interrupts_and_stops_everything() -> None:
    world = World()
    world.ask("r1", key="a")
    world.ready("a")
    world.ask("r2", key="b")
    world.shut_down(force=True)
    assert isinstance(world.interrupted["r1"], ServerClosing)
    assert {key for key, _ in world.stops} == {"a", "b"}


def test_closing_stops_a_load_under_way() -> None:
    world = World()
    world.ask("r1")
    world.shut_down()
    assert world.stops == [("a", "shutdown")]


def test_large_requests_leave_a_slot_to_others() -> None:
    world = World()
    world.ask("giant0", "giant1", "giant2", "giant3", "giant4", parallel=3, large=True)
    world.ready()
    assert list(world.granted) == ["giant0", "giant1"]
    world.ask("small", parallel=3)
    assert "small" in world.granted
    world.end("small")
    assert "giant2" not in world.granted
    world.end("giant0")
    assert "giant2" in world.granted


def test_one_large_request_takes_any_slot() -> None:
    world = World()
    world.ask("giant", parallel=1, large=True)
    world.ready()
    world.ask("waits", "too", parallel=1, large=True)
    assert list(world.granted) == ["giant"]
    world.end("giant")
    assert list(world.granted) == ["giant", "waits"]
