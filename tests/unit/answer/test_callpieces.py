"""Calls shown while they are written: early, the same whatever the pieces, and never wrongly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.answer.parsers.readings import TOOLS, parser_of

from corral.answer.outputs import OutputParser, TaggedOutput
from corral.answer.toolcalls import ToolCallParser
from corral.core import CallPiece, Delta, Message, ToolCall

FORM_NAMES = ("qwen3", "qwen3-vl-instruct", "ministral", "cohere", "deepseek3", "cogito", "harmony")
TAGS = ("<tool_call>", "[TOOL_CALLS]", "{", "[")
FORMS = (*FORM_NAMES, *TAGS)
NAMES = [tool.name for tool in TOOLS]
Call = tuple[str, dict[str, Any]]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text('ab"\\{}[]<>/\n\té🙂', max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab{", max_size=3), inner, max_size=3),
    max_leaves=5,
)
CALLS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.dictionaries(st.text("abc", min_size=1, max_size=4), VALUES, max_size=3)),
    min_size=1,
    max_size=3,
)


def parser(form: str) -> OutputParser:
    if form in TAGS:
        return TaggedOutput(tools=ToolCallParser(form, TOOLS))
    return parser_of(form, last=Message("user", "?"), think=False)


def written(form: str, calls: Sequence[Call]) -> str:
    """An answer that makes these calls, as models of this form write them."""
    texts = [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls]
    records = [f'{{"name": "{name}", "arguments": {arguments}}}' for name, arguments in texts]
    match form:
        case "qwen3" | "qwen3-vl-instruct" | "<tool_call>":
            return "Well. " + "".join(f"<tool_call>\n{record}\n</tool_call>\n" for record in records)
        case "ministral":
            return "".join(f"[TOOL_CALLS]{name}[ARGS]{arguments}" for name, arguments in texts)
        case "cohere":
            items = [f'{{"tool_call_id": "0", "tool_name": "{n}", "parameters": {a}}}' for n, a in texts]
            return f"<|START_ACTION|>[\n    {', '.join(items)}\n]<|END_ACTION|>"
        case "deepseek3":
            inner = "".join(f"<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{a}<｜tool▁call▁end｜>" for n, a in texts)
            return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"
        case "cogito":
            inner = "".join(
                f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{a}\n```<｜tool▁call▁end｜>"
                for n, a in texts
            )
            return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"
        case "harmony":
            return "<|start|>assistant".join(
                f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}<|end|>"
                for name, arguments in texts
            )
        case "[TOOL_CALLS]" | "[":
            return f"{form if form == '[TOOL_CALLS]' else ''}[{', '.join(records)}]"
        case _:
            return " ".join(records)


@dataclass
class Shown:
    """What a client sees that follows the pieces."""

    content: str = ""
    pieces: dict[int, list[CallPiece]] = field(default_factory=dict)
    calls: dict[int, ToolCall] = field(default_factory=dict)

    def take(self, deltas: Sequence[Delta]) -> None:
        for delta in deltas:
            assert delta != Delta(), "an empty delta"
            self.content += delta.content
            for piece in delta.call_pieces:
                before = self.pieces.setdefault(piece.index, [])
                assert bool(piece.name) == (not before), "the first piece, and only it, has the name"
                assert not before or not before[-1].end, "a piece behind the last one"
                assert not before or before[0].id == piece.id
                before.append(piece)
            for call in delta.tool_calls:
                assert call.index not in self.calls
                self.calls[call.index] = call

    def text(self, index: int) -> str:
        return "".join(piece.arguments for piece in self.pieces[index])

    @property
    def joined(self) -> list[tuple[str, str, str]]:
        """Each shown call: name, text of its arguments, how it ended."""
        return [(pieces[0].name, self.text(index), pieces[-1].end) for index, pieces in sorted(self.pieces.items())]


def read(form: str, pieces: Sequence[str], *, shows: bool = True) -> Shown:
    reader, shown = parser(form), Shown()
    if shows:
        reader.show_calls()
    for piece in pieces:
        shown.take(reader.feed(piece))
    shown.take(reader.finish())
    return shown


def cut(text: str, borders: Sequence[int]) -> list[str]:
    places = sorted({0, len(text), *(border % (len(text) + 1) for border in borders)})
    return [text[start:end] for start, end in pairwise(places)]


def check(shown: Shown) -> None:
    """Every shown call ends; a whole one is the call and its JSON, a broken one is neither."""
    for index, pieces in shown.pieces.items():
        if pieces[-1].end == "whole":
            call = shown.calls[index]
            assert (call.name, call.id) == (pieces[0].name, pieces[0].id)
            assert json.loads(shown.text(index)) == call.arguments
        else:
            assert pieces[-1].end == "broken"
            assert index not in shown.calls
            with pytest.raises(json.JSONDecodeError):
                json.loads(shown.text(index))


@pytest.mark.parametrize("form", FORMS)
@given(calls=CALLS, borders=st.lists(st.integers(0, 10_000), max_size=12))
@settings(max_examples=40, deadline=None)
def test_shown_calls_are_the_calls(form: str, calls: list[Call], borders: list[int]) -> None:
    text = written(form, calls)
    shown, whole = read(form, cut(text, borders)), read(form, [text], shows=False)
    check(shown)
    assert not whole.pieces
    assert [(call.name, call.arguments) for call in shown.calls.values()] == calls
    assert list(shown.calls) == list(range(len(calls)))
    with_arguments = {index for index, (_, arguments) in enumerate(calls) if arguments}
    if form == "cohere":  # behind a call without arguments the rest of the list comes whole
        assert shown.pieces.keys() <= with_arguments
    else:
        assert shown.pieces.keys() == with_arguments
    assert shown.content == whole.content


@pytest.mark.parametrize("form", FORMS)
@given(
    calls=CALLS,
    end=st.integers(0, 10_000),
    junk=st.sampled_from(["", "x", '"', "}", "]", "}}", "{", "</tool_call>", "<|call|>", "\\", ',"name":"calc"}']),
    borders=st.lists(st.integers(0, 10_000), max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_a_call_that_breaks_off_is_never_json_and_says_so(
    form: str, calls: list[Call], end: int, junk: str, borders: list[int]
) -> None:
    text = written(form, calls)
    text = text[: end % (len(text) + 1)] + junk
    shown, whole = read(form, cut(text, borders)), read(form, [text], shows=False)
    check(shown)
    assert shown.joined == read(form, list(text)).joined, "what is shown depends on the pieces"
    made = [(call.name, call.arguments) for call in whole.calls.values()]
    assert [(call.name, call.arguments) for call in shown.calls.values()] == made
    if all(pieces[-1].end == "whole" for pieces in shown.pieces.values()):
        assert shown.content == whole.content


@pytest.mark.parametrize("form", FORMS)
def test_a_long_file_is_seen_growing(form: str) -> None:
    text = written(form, [("save_note", {"body": "line\n" * 400})])
    reader, shown = parser(form), Shown()
    reader.show_calls()
    lags = []
    for at, char in enumerate(text):
        shown.take(reader.feed(char))
        if 200 < at < 1800:
            lags.append(at - len(shown.text(0)))
    assert max(lags) < 150, "the head of the call, and what might be the beginning of a mark"
    assert len(shown.pieces[0]) > 1000


@pytest.mark.parametrize("form", FORMS)
def test_a_broken_call_keeps_all_that_was_written_of_it(form: str) -> None:
    text = written(form, [("save_note", {"body": "abc"})])
    begun = text[: text.index("abc") + 2]
    ((name, arguments, end),) = read(form, [begun]).joined
    assert (name, arguments, end) == ("save_note", '{"body": "ab', "broken")


def test_calls_whose_name_is_unknown_or_comes_late_are_not_shown() -> None:
    for text in (
        '<tool_call>{"arguments": {"a": 1}, "name": "now"}</tool_call>',
        '<tool_call>{"name": "now", "arguments": "{}"}</tool_call>',
    ):
        shown = read("<tool_call>", [text])
        assert (shown.pieces, len(shown.calls)) == ({}, 1)
    unknown = '<tool_call>{"name": "unheard_of", "arguments": {"a": 1}}</tool_call>'
    assert read("<tool_call>", [unknown]).joined == []
    assert read("ministral", ["[TOOL_CALLS]unheard_of[ARGS]{}"]).joined == []


def test_arguments_that_come_twice_are_not_passed_on_as_the_call() -> None:
    shown = read("qwen3", ['<tool_call>{"name": "now", "arguments": {"a": 1}, "arguments": {"a": 2}}</tool_call>'])
    check(shown)
    assert [end for _, _, end in shown.joined] == ["broken"]
    assert [(call.index, call.arguments) for call in shown.calls.values()] == [(1, {"a": 2})]


def test_forms_that_are_no_json_come_whole() -> None:
    text = "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call>"
    shown = read("qwen3-coder", list(text))
    assert shown.pieces == {}
    assert [call.arguments for call in shown.calls.values()] == [{"city": "Rome"}]
