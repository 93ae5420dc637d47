"""Names of prompts' beginnings: a conversation that goes on finds its last turn, strangers share the system's text."""

from __future__ import annotations

from corral.core import Message, Tool
from corral.inference.preparing.beginnings import of_chat, of_text

SYSTEM = Message("system", "Be brief.")
TURNS = [Message("user", "One?"), Message("assistant", "One."), Message("user", "Two?")]


def test_the_next_turn_of_a_conversation_finds_the_last_one() -> None:
    before = of_chat([SYSTEM, *TURNS], (), "")
    after = of_chat([SYSTEM, *TURNS, Message("assistant", "Two."), Message("user", "Three?")], (), "")
    assert before[0] in after
    assert after[0] not in before
    assert after[-1] == before[-1], "the system's text is the shortest of all"


def test_other_conversations_share_the_system_text_and_no_more() -> None:
    one, other = of_chat([SYSTEM, *TURNS], (), ""), of_chat([SYSTEM, Message("user", "Else?")], (), "")
    assert set(one) & set(other) == {one[-1]}


def test_other_tools_and_other_owners_share_nothing() -> None:
    one = of_chat([SYSTEM, *TURNS], (), "")
    assert not set(one) & set(of_chat([SYSTEM, *TURNS], (Tool("weather"),), ""))
    assert not set(one) & set(of_chat([SYSTEM, *TURNS], (), "somebody"))


def test_a_text_has_a_name_when_its_beginning_is_long_enough() -> None:
    assert of_text("short", "") == ()
    assert of_text("x" * 1000 + "a", "") == of_text("x" * 1000 + "b", "") != of_text("y" * 1001, "")
