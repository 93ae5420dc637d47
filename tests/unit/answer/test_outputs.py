"""Harmony, and the composition of thinking and tool parsing into deltas."""

from __future__ import annotations

import pytest

from corral.answer.harmony import FunctionNames, Header, parse_header, uses_harmony
from corral.answer.outputs import OutputParser, TaggedOutput
from corral.answer.parsers.harmony import HarmonyParser
from corral.answer.thinking import ThinkingParser
from corral.answer.toolcalls import ToolCallParser
from corral.core import Delta, Message, Tool
from corral.gotemplate import parse

TOOLS = (Tool("get-weather"), Tool("get_weather"), Tool("3d view"), Tool("é!"), Tool("browser.open"), Tool("!"))


def read(parser: OutputParser, text: str, size: int) -> tuple[str, str, list[tuple[str, dict[str, object], int]]]:
    deltas: list[Delta] = []
    for start in range(0, len(text), size):
        deltas += parser.feed(text[start : start + size])
    deltas += parser.finish()
    assert all(delta != Delta() for delta in deltas)
    calls = [(call.name, call.arguments, call.index) for delta in deltas for call in delta.tool_calls]
    return "".join(d.thinking for d in deltas), "".join(d.content for d in deltas), calls


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_thinking_then_text_then_a_call(size: int) -> None:
    parser = TaggedOutput(ThinkingParser("<think>", "</think>"), ToolCallParser("<tool_call>", (Tool("add"),)))
    text = '<think> hm </think>\n\nSo: <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    assert read(parser, text, size) == ("hm ", "So: ", [("add", {"a": 1}, 0)])


def test_plain_text_passes_through_piece_by_piece() -> None:
    parser = TaggedOutput()
    assert parser.feed("a <think> {") == [Delta(content="a <think> {")]
    assert parser.finish() == []


def test_thinking_and_content_of_one_piece_come_as_two_deltas() -> None:
    parser = TaggedOutput(ThinkingParser("<think>", "</think>"))
    assert parser.feed("<think>a</think>b") == [Delta(thinking="a"), Delta(content="b")]
    assert not parser.thinking


def test_an_unfinished_call_at_the_end_is_content_with_a_notice() -> None:
    parser = TaggedOutput(tools=ToolCallParser("<tool_call>", (Tool("add"),)))
    assert read(parser, 'x<tool_call>{"name": "ad', 4) == ("", 'x<tool_call>{"name": "ad', [])
    assert [notice.code for notice in parser.notices] == ["tool_call_unparsed"]


HARMONY = (
    "<|channel|>analysis<|message|>think<|end|><|start|>assistant<|channel|>final<|message|>Hi <b>",
    '<|channel|>commentary to=functions.get_weather_2 <|constrain|>json<|message|>{"city": "Rome"}',
)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_harmony_channels(size: int) -> None:
    assert read(HarmonyParser(FunctionNames(TOOLS)), HARMONY[0], size) == ("think", "Hi <b>", [])
    got = read(HarmonyParser(FunctionNames(TOOLS)), HARMONY[1], size)
    assert got == ("", "", [("get_weather", {"city": "Rome"}, 0)])


def test_harmony_calls_that_end_within_the_text_are_all_there() -> None:
    one = "<|channel|>commentary to=functions.get_weather<|message|>{}<|end|><|start|>assistant"
    assert read(HarmonyParser(FunctionNames(TOOLS)), one + HARMONY[1], 7)[2] == [
        ("get-weather", {}, 0),
        ("get_weather", {"city": "Rome"}, 1),
    ]


@pytest.mark.parametrize(
    ("text", "content", "code"),
    [
        ("Hello there", "Hello there", "harmony_format"),
        ("<|channel|>commentary to=f<|message|>{broken", "{broken", "tool_call_unparsed"),
        ("<|channel|>final<|message|>a<|end|>stray", "astray", "harmony_format"),
        (
            "<|channel|>final<|message|>a<|end|>stray<|start|>assistant<|channel|>final<|message|>b",
            "astrayb",
            "harmony_format",
        ),
    ],
)
def test_text_outside_of_the_format_is_content_with_a_notice(text: str, content: str, code: str) -> None:
    parser = HarmonyParser(FunctionNames(TOOLS))
    assert read(parser, text, 3)[1] == content
    assert [notice.code for notice in parser.notices] == [code]


@pytest.mark.parametrize(
    ("last", "thinking", "content"),
    [
        (Message("assistant", "Sure"), "", " it is"),
        (Message("assistant", thinking="Hm"), " it is", ""),
    ],
)
def test_a_prefilled_answer_is_continued_in_its_channel(last: Message, thinking: str, content: str) -> None:
    assert read(HarmonyParser(FunctionNames(()), last), " it is", 2) == (thinking, content, [])


def test_function_names_become_identifiers_and_come_back() -> None:
    names = FunctionNames(TOOLS)
    made = [tool.name for tool in names.tools]
    assert made == ["get_weather", "get_weather_2", "_3d_view", "é", "browser.open", "unnamed"]
    assert [names.original(name) for name in made] == [tool.name for tool in TOOLS]
    assert names.original("other") == "other"


@pytest.mark.parametrize(
    ("raw", "header"),
    [
        ("assistant<|channel|>analysis", Header("assistant", "analysis", "")),
        (
            "assistant<|channel|>commentary to=functions.f <|constrain|>json",
            Header("assistant", "commentary", "functions.f"),
        ),
        (
            "assistant to=functions.f<|channel|>commentary<|constrain|>json",
            Header("assistant", "commentary", "functions.f"),
        ),
        ("to=browser.search<|channel|>analysis", Header("tool", "analysis", "browser.search")),
        ("", Header()),
    ],
)
def test_headers(raw: str, header: Header) -> None:
    assert parse_header(raw) == header


def test_harmony_is_recognised_by_family_and_markers() -> None:
    template = parse("<|start|>{{ .Prompt }}<|end|>{{ .Response }}")
    assert uses_harmony("gptoss", template)
    assert uses_harmony("gpt-oss", template)
    assert not uses_harmony("llama", template)
    assert not uses_harmony("gptoss", parse("{{ .Prompt }}"))
