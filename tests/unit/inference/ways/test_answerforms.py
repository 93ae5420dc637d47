"""The forms of answers that grammars make models write: as the renderers print them, and as the parsers read them."""

from __future__ import annotations

import pytest

from corral.answer.parsers import answer_parser
from corral.core import Message, Tool, ToolCall
from corral.inference.ways.answerforms import FORMS
from corral.prompt.renderers.registry import RENDERERS
from corral.prompt.toolformat import ToolFormat

NAMES = ("first_call", "second_call")
TOOLS = [Tool(name, parameters={"type": "object", "properties": {"a": {"type": "string"}}}) for name in NAMES]
CALLS = tuple(ToolCall(name, {"a": "x"}, f"c{place}") for place, name in enumerate(NAMES))
RENDERED_BY = {
    "deepseek3": "deepseek3.1",
    "gemma4-no-thinking": "gemma4",
    **{name: name for name in FORMS if name in RENDERERS},
}
WITH_CALLS = sorted(name for name, form in FORMS.items() if form.calls)
JSON_SAMPLE = '{"a": "x"}'


def rendered(parser: str, calls: tuple[ToolCall, ...]) -> str:
    turns = [Message("user", "Q"), Message("assistant", tool_calls=calls), Message("user", "R")]
    return RENDERERS[RENDERED_BY[parser]].render(turns, (), True)


def form_of(parser: str) -> ToolFormat:
    form = FORMS[parser].calls
    assert form is not None
    return form


def arguments_of(parser: str) -> str:
    """The sample call's arguments with what ends them, as the family's renderer writes them."""
    form = form_of(parser)
    if not form.arguments_end:
        return JSON_SAMPLE
    behind = rendered(parser, CALLS[:1]).partition(NAMES[0] + form.middle)[2]
    return behind.partition(form.arguments_end)[0] + form.arguments_end


@pytest.mark.parametrize("parser", [name for name in WITH_CALLS if name in RENDERED_BY])
def test_a_form_is_how_the_renderer_prints_a_call(parser: str) -> None:
    form, prompt = form_of(parser), rendered(parser, CALLS[:1])
    assert form.start + NAMES[0] + form.middle in prompt
    assert form.tag in form.start
    assert (form.arguments_end or form.end) in prompt.partition(NAMES[0] + form.middle)[2]


@pytest.mark.parametrize("parser", WITH_CALLS)
def test_the_parser_reads_calls_in_that_form(parser: str) -> None:
    form = form_of(parser)
    arguments = arguments_of(parser) if parser in RENDERED_BY else JSON_SAMPLE
    first, second = (name + form.middle + arguments.replace(NAMES[0], name) for name in NAMES)
    reader = answer_parser(parser, TOOLS, None, False)
    assert reader is not None
    deltas = [*reader.feed(form.start + first + form.between + second + form.end), *reader.finish()]
    assert [(call.name, call.arguments) for delta in deltas for call in delta.tool_calls] == [
        (name, {"a": "x"}) for name in NAMES
    ]
    assert reader.notices == []


@pytest.mark.parametrize("parser", sorted(name for name, form in FORMS.items() if form.thinking))
def test_the_parser_reads_thinking_between_the_tags_and_text_behind_the_opening(parser: str) -> None:
    form = FORMS[parser]
    assert form.thinking is not None
    opened, closed = form.thinking
    reader = answer_parser(parser, (), None, True)
    assert reader is not None
    inside = parser in RENDERED_BY and rendered(parser, ()).rstrip().endswith(opened)
    text = ("" if inside else opened) + "\nhm\n" + closed + form.opening + "answer"
    deltas = [*reader.feed(text), *reader.finish()]
    assert "".join(delta.content for delta in deltas).strip() == "answer"
