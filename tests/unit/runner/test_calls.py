"""The calls in flight as the watchdog asks of them."""

from __future__ import annotations

import time

from corral.runner.calls import Call, Calls


def test_the_oldest_without_an_answer_is_told() -> None:
    calls = Calls()
    first, second = Call(1.0), Call(2.0)
    with calls.add(first), calls.add(second):
        assert calls.oldest_unanswered is first
        calls.move(first)
        assert calls.oldest_unanswered is second
    assert calls.oldest_unanswered is None
    assert not calls


def test_nobody_is_late_while_a_slot_is_saved() -> None:
    calls = Calls()
    with calls.add(Call(1.0)), calls.add(Call(2.0, on_slot=True)):
        assert calls.oldest_unanswered is None


def test_an_answer_that_stands_still_may_be_done_for_the_engine() -> None:
    calls = Calls()
    with calls.add(Call(1.0)), calls.add(Call(1.0)) as answered:
        calls.move(answered)
        assert calls.wanting(answered.moved) == 2
        assert calls.wanting(time.monotonic() + 1) == 1
        with calls.add(Call(1.0, seeks_slot=False)):
            assert calls.wanting(answered.moved) == 2


def test_the_first_of_a_busy_time_is_progress_and_wakes_the_watchdog() -> None:
    calls = Calls()
    woken: list[int] = []
    calls.on_busy = lambda: woken.append(len(calls))
    calls.last_progress = 0.0
    with calls.add(Call(1.0)), calls.add(Call(2.0)):
        assert woken == [1]
        assert calls.last_progress > 0
    with calls.add(Call(3.0)):
        assert woken == [1, 1]
