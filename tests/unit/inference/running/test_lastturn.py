"""Where the last turn begins in a rendered prompt, and whether reading has to stop there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core import Message
from corral.inference.running.lastturn import LastTurn, last_turn

STEP = 16


def said(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role, content) for role, content in turns]


def rendered(messages: list[Message]) -> str:
    return "".join(f"<{message.role}>{message.content}" for message in messages)


def test_the_last_turn_is_the_users_or_a_tools() -> None:
    messages = said(("system", "be brief"), ("user", "hello"), ("assistant", "hello"), ("user", "hello"))
    turn = last_turn(rendered(messages), messages)
    assert turn == LastTurn("<system>be brief<user>hello<assistant>hello<user>hello", 49)
    messages += said(("assistant", "a call"), ("tool", " 20 degrees "))
    turn = last_turn(rendered(messages), messages)
    assert turn is not None
    assert turn.text[turn.start :] == "20 degrees "


@pytest.mark.parametrize("messages", [said(("system", "x")), said(("user", " ")), []])
def test_there_may_be_none(messages: list[Message]) -> None:
    assert last_turn("<user>something else", messages) is None


def test_one_that_the_template_changed_is_not_found() -> None:
    assert last_turn("<user>HELLO", said(("user", "hello"))) is None


@pytest.mark.parametrize(
    ("known", "stops"),
    [
        ([], True),  # nothing is read
        (["s" * 40 + "x"], True),  # what is new begins before the turn, and is long
        (["s" * 100 + "t" * 50], False),  # the turn is read already, in part
        (["s" * 100], False),  # what is new begins with the turn
        (["", "s" * 100 + "u"], False),  # the best of them counts
    ],
)
def test_a_stop_is_made_where_the_engine_would_make_no_checkpoint(known: list[str], *, stops: bool) -> None:
    assert LastTurn("s" * 100 + "t" * 100, 100).needs_stop(known, STEP) is stops


def test_a_short_rest_is_read_from_a_checkpoint_anyway() -> None:
    assert not LastTurn("s" * 100 + "t" * 10, 100).needs_stop(["s" * 90], STEP)


@given(st.text(max_size=30), st.text("ab", max_size=30), st.text("ab", max_size=30))
def test_what_is_common_is_counted_to_the_character(start: str, one: str, other: str) -> None:
    text, known = start + "a" + one, start + "b" + other
    at = len(start)
    assert LastTurn(text, at + 1).needs_stop([known], 0)
    assert not LastTurn(text, at).needs_stop([known], 0)
