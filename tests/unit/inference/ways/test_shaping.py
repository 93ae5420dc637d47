"""Offering a conversation to a template: which form stays, what is told when none does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from corral.core import Message, ToolCall
from corral.errors import CorralError, EngineError, InvalidRequest, TemplateError, TemplateRefused
from corral.inference.ways.shaping import Shaping, is_delicate, left_out, left_out_notices

TRACE = (
    "Unable to generate parser for this template. Automatic parser generation failed: \n------------\n"
    "While executing CallExpression at line 1, column 411 in source:\n...0) %}}{{ raise_exception('x\n   ^\n"
    "Error: Jinja Exception: roles must alternate"
)
USER, LATE = Message("user", "the question"), Message("system", "late words")
CALL = Message("assistant", tool_calls=(ToolCall("look", {"what": "value one"}),))
RESULT = Message("tool", "result words")


def template(refuses: Callable[[Sequence[Message]], bool], error: CorralError | None = None) -> Shaping:
    """A template of contents that refuses some conversations."""

    async def render(messages: Sequence[Message]) -> str:
        offered.append([message.role for message in messages])
        if refuses(messages):
            raise error or EngineError(400, TRACE)
        calls = "".join(f"{call.name} {call.arguments}" for message in messages for call in message.tool_calls)
        return "|".join(message.content for message in messages) + calls

    offered: list[list[str]] = []
    shaping = Shaping(render)
    shaping.offered = offered  # type: ignore[attr-defined]
    return shaping


def alternates(messages: Sequence[Message]) -> bool:
    return any(message.role != ("assistant" if place % 2 else "user") for place, message in enumerate(messages))


async def test_what_is_taken_as_it_is_stays_as_it_is() -> None:
    shaping = template(lambda _: False)
    shaped = await shaping.shape([USER, LATE, CALL, RESULT])
    assert shaped.messages == [USER, LATE, CALL, RESULT]
    assert not shaped.tells_calls


async def test_the_first_form_that_is_taken_stays_and_is_the_first_one_offered_next() -> None:
    shaping = template(alternates)
    shaped = await shaping.shape([USER, LATE, CALL, RESULT])
    assert [message.role for message in shaped.messages] == ["user", "assistant", "user"]
    assert shaped.tells_calls
    before = len(shaping.offered)  # type: ignore[attr-defined]
    await shaping.shape([USER, USER])
    assert len(shaping.offered) == before + 1  # type: ignore[attr-defined]


async def test_one_conversation_is_rendered_once() -> None:
    shaping = template(lambda _: False)
    assert await shaping.shape([USER]) is await shaping.shape([USER])
    assert len(shaping.offered) == 1  # type: ignore[attr-defined]


async def test_a_template_that_takes_nothing_is_told_in_its_own_words() -> None:
    with pytest.raises(TemplateRefused) as caught:
        await template(lambda _: True).shape([USER])
    assert str(caught.value) == "the model's chat template does not take this conversation: roles must alternate"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (EngineError(500, "out of memory"), EngineError, "out of memory"),
        (TemplateError("nil", 1, 2), TemplateError, "template: :1:2: nil"),
        (
            EngineError(400, "Unable … Automatic parser generation failed: JSON schema error at #/x: no"),
            InvalidRequest,
            "JSON schema error at #/x: no",
        ),
    ],
)
async def test_other_errors_stay_themselves(error: CorralError, kind: type[CorralError], text: str) -> None:
    with pytest.raises(kind) as caught:
        await template(lambda _: True, error).shape([USER])
    assert str(caught.value) == text


async def test_a_form_that_shows_less_is_left_for_one_that_shows_all() -> None:
    async def render(messages: Sequence[Message]) -> str:
        return "|".join(message.content for message in messages if message.role in {"user", "assistant"})

    shaped = await Shaping(render).shape([USER, LATE, CALL, RESULT])
    assert "late words" in shaped.text
    assert "value one" in shaped.text
    assert "result words" in shaped.text
    spared = await Shaping(render, may_leave_out=frozenset({"tool"})).shape([USER, CALL, RESULT])
    assert spared.messages == [USER, CALL, RESULT]


async def test_what_no_form_shows_is_no_error() -> None:
    async def render(messages: Sequence[Message]) -> str:
        return "always the same"

    shaped = await Shaping(render).shape([USER, LATE])
    assert list(shaped.messages) == [USER, LATE]
    (notice,) = left_out_notices(shaped.messages, shaped.text)
    assert (notice.code, notice.facts) == ("messages_left_out", {"count": 1, "roles": ["system"]})


@pytest.mark.parametrize(
    ("messages", "delicate"),
    [
        ([Message("system", "lead words"), USER, Message("assistant", "x")], False),
        ([USER, LATE], True),
        ([Message("system", "lead words")], True),
        ([USER, CALL], True),
        ([Message("robot", "lead words"), USER], True),
    ],
)
def test_which_turns_templates_may_leave_out(messages: list[Message], delicate: bool) -> None:
    assert is_delicate(messages) == delicate
    assert bool(left_out(messages, "nothing")) == delicate
    shown = 'lead words\nlate words look {"what": "value one"} the question'
    assert left_out(messages, shown) == []


def test_words_are_found_however_they_are_written() -> None:
    quoted = Message("tool", 'She said "nothing\nat all"')
    assert left_out([USER, quoted], 'the question {"result": "She said \\"nothing\\nat all\\""}') == []
    spread = Message("tool", "one  two\n\nthree")
    assert left_out([USER, spread], "the question: one two / three") == []
    assert left_out([USER, Message("tool", "42")], "the question") == [Message("tool", "42")]
    assert left_out([USER, Message("tool", "the other question")], "the question") != []


async def test_instructions_may_be_left_out_where_a_template_has_no_place_for_any() -> None:
    first, later = Message("system", "ALPHA"), Message("system", "BETA")

    async def render(messages: Sequence[Message]) -> str:
        return "".join(message.content for message in messages if message.role == "user")

    spared = await Shaping(render, may_leave_out=frozenset({"system"})).shape([first, USER, later, USER])
    assert spared.text == USER.content * 2
    whole = await Shaping(render).shape([first, USER, later, USER])
    assert "ALPHA" in whole.text
    assert "BETA" in whole.text
