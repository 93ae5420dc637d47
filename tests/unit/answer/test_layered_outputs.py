"""Parsers around other parsers: without a lead that the model was made to write, with calls in the content."""

from __future__ import annotations

import pytest

from corral.answer.outputs import CallsInContent, TaggedOutput, WithoutLead
from corral.answer.thinking import ThinkingParser
from corral.answer.toolcalls import ToolCallParser
from corral.core import Delta, Tool


def thinker() -> TaggedOutput:
    return TaggedOutput(ThinkingParser("<think>", "</think>", inside=True))


def read(parser: WithoutLead | CallsInContent, text: str, size: int) -> tuple[str, str, list[str]]:
    deltas: list[Delta] = []
    for start in range(0, len(text), size):
        deltas += parser.feed(text[start : start + size])
    deltas += parser.finish()
    calls = [call.name for delta in deltas for call in delta.tool_calls]
    return "".join(d.thinking for d in deltas), "".join(d.content for d in deltas), calls


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_lead_that_was_written_is_not_read(size: int) -> None:
    parser = WithoutLead(thinker(), "<think>\n")
    assert read(parser, "<think>\nhm</think>yes", size) == ("hm", "yes", [])


def test_a_lead_that_was_not_written_is_not_missed() -> None:
    assert read(WithoutLead(thinker(), "<think>\n"), "hm</think>yes", 5) == ("hm", "yes", [])
    assert read(WithoutLead(thinker(), "<think>"), "", 1) == ("", "", [])


def test_it_tells_whether_the_text_ends_inside_the_thinking() -> None:
    for parser in (WithoutLead(thinker(), "<"), CallsInContent(thinker(), ToolCallParser("<call>", [Tool("f")]))):
        parser.feed("<hm")
        assert parser.thinking
        parser.feed("</think>a")
        assert not parser.thinking


@pytest.mark.parametrize("size", [1, 4, 100])
def test_calls_are_taken_out_of_the_content_and_not_out_of_the_thinking(size: int) -> None:
    parser = CallsInContent(thinker(), ToolCallParser("<call>", [Tool("f")]))
    text = '<call>{"name": "f"}</think>I look.<call>{"name": "f", "arguments": {}}'
    thinking, content, calls = read(parser, text, size)
    assert (thinking, content.strip(), calls) == ('<call>{"name": "f"}', "I look.", ["f"])


def test_notices_of_both_are_told() -> None:
    parser = CallsInContent(thinker(), ToolCallParser("<call>", [Tool("f")]))
    read(parser, '</think><call>{"name": "f", "arguments": {', 100)
    assert [notice.code for notice in parser.notices] == ["tool_call_unparsed"]
