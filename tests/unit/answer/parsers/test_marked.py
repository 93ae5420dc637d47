"""The parsers' base: blanks, marks that are cut off, notices, bounds of work and memory."""

from __future__ import annotations

import time

import pytest
from tests.unit.answer.parsers.readings import parser_of, read

from corral.core import Message
from corral.parsernames import PARSERS

MEGABYTE = 1_000_000


def test_deltas_come_in_the_order_of_the_text() -> None:
    text = 'hm</think>a<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g"}</tool_call>b'
    kinds = [
        "thinking" if delta.thinking else "content" if delta.content else [call.name for call in delta.tool_calls]
        for delta in parser_of("qwen3-thinking").feed(text)
    ]
    assert kinds == ["thinking", "content", ["f", "g"], "content"]


def test_text_passes_as_soon_as_it_is_certain() -> None:
    parser = parser_of("qwen3-coder")
    assert [delta.content for piece in ("Hello", " <", "b", "> ", "you") for delta in parser.feed(piece)] == [
        "Hello",
        " <b",
        ">",
        " you",
    ]


@pytest.mark.parametrize("name", sorted(PARSERS.keys() - {"harmony", "glimmer"}))
def test_a_mark_that_the_end_cuts_off_is_text(name: str) -> None:
    text = f"One {PARSERS[name].preserved_tokens[-1][:4] if PARSERS[name].preserved_tokens else '<'}"
    got = read(parser_of(name, last=Message("assistant", "Prefilled"), think=False), text)
    assert got.content + got.thinking == text


def test_blanks_between_two_texts_stay_and_those_before_the_first_go() -> None:
    call = '<tool_call>{"name": "f"}</tool_call>'
    assert read(parser_of("qwen3"), f"One.\n{call}\n\nTwo.{call}\n").content == "One.\n\nTwo."
    assert read(parser_of("qwen3"), f"{call}\n\nTwo.").content == "Two."


def test_thinking_is_told_while_it_lasts() -> None:
    parser = parser_of("qwen3.5")
    assert parser.thinking
    parser.feed("hm</think>")
    assert not parser.thinking


def test_notices_are_few_and_short() -> None:
    got = read(parser_of("olmo3"), ["<function_calls>" + "\n".join(["x" * 5000] * 100) + "</function_calls>"])
    assert 0 < len(got.notices) <= 16
    assert all(len(facts["text"]) <= 2001 for _, facts in got.notices)


def seconds(name: str, opening: str, token: str, size: int) -> float:
    """Processor time of an answer that comes in single tokens."""
    parser = parser_of(name, think=True)
    began = time.process_time()
    parser.feed(opening)
    for _ in range(size // len(token)):
        parser.feed(token)
    parser.finish()
    return time.process_time() - began


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("qwen3-coder", "<tool_call>"),
        ("ministral", '[TOOL_CALLS]now[ARGS]{"a": "'),
        ("laguna", '</think>{"name": "'),
        ("glimmer", " to=now<|message|><atem:function_calls>"),
        ("harmony", "<|channel|>commentary to=functions.now<|message|>"),
    ],
)
def test_a_megabyte_in_single_tokens_takes_linear_time_even_in_a_call_that_never_ends(name: str, opening: str) -> None:
    assert seconds(name, opening, "word", MEGABYTE) < 8  # 0.7 here; quadratic work would take minutes


@pytest.mark.parametrize("name", PARSERS)
def test_hostile_tokens_take_linear_time(name: str) -> None:
    marks = [mark for mark in PARSERS[name].preserved_tokens if "/" not in mark]
    for token in ("\n", "<", "{", *marks[-2:]):
        assert seconds(name, marks[-1] if marks else "", token, 20_000) < 2, token


@pytest.mark.parametrize(
    ("name", "opening", "closing"),
    [
        ("qwen3", '<tool_call>{"name": "f", "arguments": {"a": ', "</tool_call>"),
        ("qwen3-coder", "<tool_call><function=save_note><parameter=tags>", "</parameter></function></tool_call>"),
        ("lfm2", "<|tool_call_start|>f(a=", ")<|tool_call_end|>"),
        ("olmo3", "<function_calls>f(a=", ")</function_calls>"),
        ("functiongemma", "<start_function_call>call:f{a:", "}<end_function_call>"),
        ("gemma4", "<|tool_call>call:save_note{title:", "}<tool_call|>"),
        ("cohere", '<|END_THINKING|><|START_ACTION|>[{"tool_name": "f", "parameters": ', "}]<|END_ACTION|>"),
        ("ministral", "[TOOL_CALLS]now[ARGS]", ""),
        ("laguna", '</think>{"name": ', "}"),
    ],
)
@pytest.mark.parametrize("token", ["[", '{"a":', "(", "'", '"', '\\"', ":'", ",a:"])
def test_hostile_nesting_and_quoting_is_read_or_told_in_linear_time(
    name: str, opening: str, closing: str, token: str
) -> None:
    began = time.process_time()
    got = read(parser_of(name, think=True), [opening + token * 20_000 + closing])
    assert time.process_time() - began < 2
    assert got.calls or got.notices or got.content
