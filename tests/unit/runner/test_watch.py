"""When a busy engine counts as hung: looks at it, one after the other, and the verdict."""

from __future__ import annotations

import pytest

from corral.runner.calls import Call
from corral.runner.watch import PARSE_S, Look, Stretch

DEADLINE_S = 30.0
MIB = 2**20


class Engine:
    """An engine as it can be seen, second by second."""

    def __init__(self, *, deadline_s: float = DEADLINE_S, answers_in_steps: bool = True) -> None:
        self.now = 0.0
        self.cpu_s = 0.0
        self.tokens = 0
        self.progress = 0.0  # when an answer last moved
        self.held_bytes = 0
        self.stretch = Stretch(deadline_s, self.look(), answers_in_steps=answers_in_steps)

    def look(self, working: int = 0, *, silent: bool = False) -> Look:
        if silent:
            return Look(self.now, self.cpu_s, self.held_bytes)
        return Look(self.now, self.cpu_s, self.held_bytes, (self.tokens,), working, 4)

    def passes(
        self,
        *,
        working: int = 0,
        cpu: float = 1.0,
        tokens: int = 0,
        moves: bool = False,
        calls: int = 1,
        oldest: Call | None = None,
        silent: bool = False,
        grows_bytes: int = 0,
        at_most_s: float = 1000.0,
    ) -> tuple[float, float]:
        """(seconds until a verdict, what was allowed) when it goes on like this; (at_most_s, 0) when none comes."""
        began = self.now
        while self.now - began < at_most_s:
            self.now += 1.0
            self.cpu_s += cpu
            self.tokens += tokens
            self.held_bytes += grows_bytes
            self.progress = self.now if moves else self.progress
            allowed_s = self.stretch.judge(self.look(working, silent=silent), self.progress, calls, oldest)
            if allowed_s:
                return self.now - began, allowed_s
        return at_most_s, 0.0


@pytest.fixture
def engine() -> Engine:
    return Engine()


REQUEST = Call(started=0.0, size_bytes=500)


def test_an_engine_that_is_stopped_is_hung_after_the_deadline(engine: Engine) -> None:
    assert engine.passes(working=1, cpu=0.0) == (30, 30)
    assert Engine().passes(silent=True, cpu=0.0, oldest=REQUEST) == (30, 30)


def test_tokens_are_progress_whatever_else_can_be_seen(engine: Engine) -> None:
    assert engine.passes(working=1, cpu=0.0, tokens=1)[1] == 0
    assert engine.passes(moves=True, cpu=0.0)[1] == 0


def test_one_long_step_may_take_ten_deadlines(engine: Engine) -> None:
    took_s, allowed_s = engine.passes(working=1)
    assert (took_s, allowed_s) == (329, 30)


def test_a_request_that_is_being_read_is_given_seconds(engine: Engine) -> None:
    took_s, allowed_s = engine.passes(oldest=REQUEST)
    assert took_s <= PARSE_S + 1
    assert allowed_s == pytest.approx(PARSE_S, abs=0.1)


def test_a_long_request_is_given_longer(engine: Engine) -> None:
    took_s, allowed_s = engine.passes(oldest=Call(0.0, 5_000_000))
    assert took_s == pytest.approx(allowed_s, abs=1.1)
    assert allowed_s == PARSE_S + 100


def test_on_a_busy_host_it_is_the_time_that_was_computed_which_counts(engine: Engine) -> None:
    took_s, allowed_s = engine.passes(oldest=REQUEST, cpu=0.2)
    assert took_s == pytest.approx(10, abs=1)
    assert allowed_s == pytest.approx(PARSE_S, abs=0.1)


def test_it_is_noticed_while_others_are_answered(engine: Engine) -> None:
    took_s, _ = engine.passes(oldest=REQUEST, calls=3, working=2, tokens=1, moves=True)
    assert took_s == pytest.approx(1.5 * PARSE_S, abs=2)


def test_and_sooner_when_memory_goes_with_it(engine: Engine) -> None:
    took_s, _ = engine.passes(oldest=REQUEST, calls=3, working=2, tokens=1, moves=True, grows_bytes=50 * MIB)
    assert took_s == pytest.approx(PARSE_S, abs=2)


def test_who_waits_for_a_slot_is_not_being_read(engine: Engine) -> None:
    assert engine.passes(oldest=REQUEST, calls=5, working=4, tokens=1, moves=True)[1] == 0


def test_who_waits_beside_one_long_step_is_not_being_read_and_nor_is_whose_step_it_is(engine: Engine) -> None:
    """An image that takes the CPU half a minute, without an answer yet, and a request that came meanwhile."""
    took_s, allowed_s = engine.passes(oldest=REQUEST, calls=2, working=1, grows_bytes=50 * MIB)
    assert (took_s, allowed_s) == (329, 30)


def test_the_end_of_a_long_step_gives_a_slot_to_who_waited(engine: Engine) -> None:
    waiting = Call(started=1.0)
    assert engine.passes(oldest=waiting, calls=2, working=1, at_most_s=40)[1] == 0
    engine.tokens += 1  # the step ends; the slot is given out a moment after we look
    assert engine.passes(oldest=waiting, calls=2, working=1, at_most_s=1)[1] == 0
    assert engine.passes(oldest=waiting, calls=2, working=2, at_most_s=40)[1] == 0


def test_a_text_that_is_only_read_needs_no_slot(engine: Engine) -> None:
    tokenize = Call(0.0, 500, seeks_slot=False)
    took_s, allowed_s = engine.passes(oldest=tokenize, calls=4, working=4, tokens=1, moves=True)
    assert took_s == pytest.approx(1.5 * PARSE_S, abs=2)
    assert allowed_s == pytest.approx(PARSE_S, abs=0.1)


def test_a_main_loop_that_says_nothing_is_stuck(engine: Engine) -> None:
    took_s, allowed_s = engine.passes(oldest=REQUEST, silent=True)
    assert took_s < 10
    assert allowed_s == pytest.approx(PARSE_S, abs=0.1)


def test_an_external_engine_may_say_nothing_during_a_step() -> None:
    engine = Engine(answers_in_steps=False)
    took_s, allowed_s = engine.passes(oldest=REQUEST, silent=True)
    assert (took_s, allowed_s) == (329, 30)


def test_saving_a_slot_may_keep_the_main_loop(engine: Engine) -> None:
    took_s, _ = engine.passes(oldest=None, silent=True)  # Calls.oldest_unanswered tells of nobody then
    assert took_s == 30


def test_the_next_request_starts_anew(engine: Engine) -> None:
    for number in range(20):
        call = Call(engine.now, 500)
        assert engine.passes(oldest=call, at_most_s=PARSE_S - 2, moves=number % 2 == 0)[1] == 0


def test_a_short_deadline_holds_for_the_parser_too() -> None:
    took_s, allowed_s = Engine(deadline_s=2.0).passes(oldest=REQUEST)
    assert took_s <= 4
    assert allowed_s < 2.1
