"""Runners that fail: whom it takes along, who gets another one, and when the breaker opens."""

from __future__ import annotations

from tests.unit.sched.world import ALL_AUTOMATIC, World

from corral.errors import RunnerHung
from corral.sched.events import RunnerReported


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


def test_a_bad_option_of_one_client_closes_the_model_for_nobody_else() -> None:
    world = World(breaker_failures=2)
    bad = {"n_threads": 512, "automatic": ALL_AUTOMATIC - {"n_threads"}}
    for turn in range(2):
        world.ask(f"bad{turn}", **bad)
        world.load_fails()
    world.ask("again", **bad)
    world.ask("good")
    world.ready()
    assert "again" in world.failed
    assert "good" in world.granted


def test_a_template_that_does_not_load_leaves_a_model_with_another_alone() -> None:
    world = World(breaker_failures=1)
    world.ask("broken", chat_template="{% for")
    world.load_fails()
    world.ask("derived", chat_template="chatml")
    world.ready()
    assert "derived" in world.granted


def test_what_was_ours_to_choose_does_not_make_it_another_launch() -> None:
    world = World(breaker_failures=2)
    for turn, window in enumerate((4096, 2048)):
        world.ask(f"r{turn}", context_window=window)
        world.load_fails()
    world.ask("refused", context_window=1024)
    assert "refused" in world.failed


def test_who_waits_for_a_load_with_anothers_bad_option_gets_one_without_it() -> None:
    world = World()
    world.ask("bad", n_threads=512, automatic=ALL_AUTOMATIC - {"n_threads"})
    world.ask("good")
    world.load_fails()
    assert set(world.failed) == {"bad"}
    world.ready()
    assert "good" in world.granted


def test_whose_requests_are_there_at_every_crash_is_refused_alone() -> None:
    world = World(breaker_failures=2)
    for turn in range(2):
        world.ask(f"bomb{turn}", client="mallory", parallel=2)
        world.ask(f"other{turn}", client=f"bystander{turn}", parallel=2)
        world.ready()
        world.dies()
        world.end(f"bomb{turn}")
        world.end(f"other{turn}")
    world.ask("refused", client="mallory", parallel=2)
    world.ask("served", client="bystander0", parallel=2)
    world.ready()
    assert set(world.failed) == {"refused"}
    assert "served" in world.granted
    world.end("served")
    world.ask("still", client="mallory", parallel=2)  # that others are served says nothing of these requests
    assert "still" in world.failed


def test_crashes_that_nobody_was_always_there_for_open_it_for_all() -> None:
    world = World(breaker_failures=2)
    for client in ("one", "two"):
        world.ask(client, client=client)
        world.ready()
        world.dies()
        world.end(client)
    world.ask("r", client="three")
    assert "r" in world.failed
