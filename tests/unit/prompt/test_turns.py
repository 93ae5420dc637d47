"""The forms that conversations are offered in: what each promises, for any history; nothing is lost in any."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core import Message, ToolCall
from corral.prompt.turns import FORMS, joined, ordered, plain, settled, told, unled, with_plain_calls, wrapped

SYSTEM, USER, ASSISTANT = Message("system", "s"), Message("user", "u"), Message("assistant", "a")
CALLS = (ToolCall("look", {"x": 1}, "call_1"), ToolCall("seek", {}, "abcdefgh9", 1))
CALL, RESULT = Message("assistant", "c", tool_calls=CALLS), Message("tool", "r", tool_call_id="call_1")


@st.composite
def messages(draw: st.DrawFn, number: int) -> Message:
    role = draw(st.sampled_from(["user", "assistant", "tool", "system", "robot"]))
    content = draw(st.sampled_from(["", f"text {number}"]))
    images = tuple(f"image {number} {i}".encode() for i in range(draw(st.integers(0, 2))))
    places = draw(st.sampled_from([(), tuple(sorted(draw(st.integers(0, len(content))) for _ in images))]))
    calls = tuple(
        ToolCall(f"f{number}{i}", {"x": f"value {number} {i}"}, f"id{number}{i}", i)
        for i in range(draw(st.integers(0, 2)) if role == "assistant" else 0)
    )
    return Message(role, content, "", images, calls, places=places if images else ())


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    return [draw(messages(number)) for number in range(draw(st.integers(1, 8)))]


def roles(turns: Sequence[Message]) -> list[str]:
    return [turn.role for turn in turns]


@given(conversations())
def test_nothing_is_lost_in_any_form(conversation: list[Message]) -> None:
    for form in FORMS:
        turns = form(conversation)
        texts = [turn.content for turn in turns]
        told_calls = "\n".join(texts) + str([call for turn in turns for call in turn.tool_calls])
        for message in conversation:
            assert any(message.content in text for text in texts)
            assert all(f"{call.arguments['x']}" in told_calls for call in message.tool_calls)
        images = [image for message in conversation for image in message.images]
        assert sorted(image for turn in turns for image in turn.images) == sorted(images)


@given(conversations())
def test_places_of_images_are_in_the_text_and_one_each(conversation: list[Message]) -> None:
    for form in FORMS:
        for turn in map(settled, form(conversation)):
            assert len(turn.places) == len(turn.images)
            assert list(turn.places) == sorted(turn.places)
            assert all(0 <= place <= len(turn.content) for place in turn.places)


@given(conversations())
def test_ordered_turns_take_turns_and_the_user_begins(conversation: list[Message]) -> None:
    for form in FORMS[1:]:
        turns = form(conversation)
        first = roles(turns)[1:] if turns[0].role == "system" else roles(turns)
        assert first[0] == "user"
        assert "system" not in first
        assert set(first) <= {"user", "assistant", "tool"}
        neighbours = pairwise(first)
        assert all(left != right or right == "tool" for left, right in neighbours) or form is with_plain_calls


@given(conversations())
def test_plain_calls_are_single_named_and_answered(conversation: list[Message]) -> None:
    turns = with_plain_calls(conversation)
    for place, turn in enumerate(turns):
        if turn.tool_calls:
            (call,) = turn.tool_calls
            answer = turns[place + 1]
            assert len(call.id) == 9
            assert call.id.isalnum()
            assert (answer.role, answer.tool_call_id, answer.tool_name) == ("tool", call.id, call.name)
        if turn.role == "tool":
            assert turns[place - 1].tool_calls
            assert place + 1 == len(turns) or turns[place + 1].role == "assistant"


def test_a_result_too_many_is_told_behind_an_answer() -> None:
    call = Message("assistant", tool_calls=(ToolCall("f", {}, id="one"),))
    turns = with_plain_calls([Message("user", "Go."), call, Message("tool", "first"), Message("tool", "second")])
    assert roles(turns) == ["user", "assistant", "tool", "assistant", "user"]
    assert turns[-1].content == "[result]\nsecond"


@given(conversations())
def test_the_plainest_form_knows_only_the_user_and_the_assistant_in_turn(conversation: list[Message]) -> None:
    turns = plain(conversation)
    assert all(turn.role == ("assistant" if place % 2 else "user") for place, turn in enumerate(turns))
    assert not any(turn.tool_calls for turn in turns)


@pytest.mark.parametrize(
    ("form", "before", "after"),
    [
        (ordered, [SYSTEM, SYSTEM, USER], [Message("system", "s\n\ns"), USER]),
        (ordered, [USER, ASSISTANT, USER, SYSTEM], [USER, ASSISTANT, Message("user", "u\n\ns")]),
        (ordered, [USER, SYSTEM, ASSISTANT], [Message("user", "u\n\ns"), ASSISTANT]),
        (ordered, [ASSISTANT, USER], [Message("user"), ASSISTANT, USER]),
        (ordered, [SYSTEM], [Message("user", "s")]),
        (ordered, [Message("robot", "x")], [Message("user", "x")]),
        (told, [USER, CALL, RESULT], None),
        (unled, [SYSTEM, USER], [Message("user", "s\n\nu")]),
        (with_plain_calls, [USER, RESULT, USER], [Message("user", "u\n\n[result]\nr\n\nu")]),
    ],
)
def test_forms_by_example(form: object, before: list[Message], after: list[Message] | None) -> None:
    assert callable(form)
    turns = form(before)
    if after is None:
        words = 'c\n\n[call of look] {"x": 1}\n[call of seek] {}'
        after = [USER, Message("assistant", words), Message("user", "[result]\nr")]
    assert turns == after


def test_a_result_goes_to_its_call_whatever_the_order() -> None:
    late = Message("tool", "late", tool_call_id="abcdefgh9")
    _, first, one, second, two = with_plain_calls([USER, CALL, late, RESULT])
    assert (first.content, one.content) == ("c", "r")
    assert (second.content, two.content, two.tool_call_id) == ("", "late", "abcdefgh9")


def test_joined_messages_keep_their_images_between_their_texts() -> None:
    one = Message("user", "A:", images=(b"1",))
    two = Message("user", "B:C", images=(b"2", b"3"), places=(2, 2))
    both = joined(one, two)
    assert (both.content, both.images, both.places) == ("A:\n\nB:C", (b"1", b"2", b"3"), (2, 6, 6))
    assert wrapped(two, "<", ">").places == (3, 3)
