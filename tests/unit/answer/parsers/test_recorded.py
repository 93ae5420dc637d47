"""Answers that a real Ollama's parsers read: the same reading here, in the recorded pieces, whole, in any others."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.answer.parsers.readings import GOLDEN, KIT, TOOLS, Case, Reading, cases_of, parser_of, read

from corral.answer.parsers import answer_parser
from corral.parsernames import PARSERS

CASES = cases_of(GOLDEN)


def reading_of(case: Case, pieces: tuple[str, ...]) -> Reading:
    return read(parser_of(case.parser, tools=case.tools, last=case.last, think=case.think), pieces)


def as_recorded(case: Case, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as the record has them: Ollama's olmo3 keeps only the first byte of every character."""
    if case.parser != "olmo3":
        return arguments
    text = json.dumps(arguments, ensure_ascii=False)
    kept: dict[str, Any] = json.loads("".join(char if char.isascii() else "\ufffd" for char in text))
    return kept


def matches(case: Case, reading: Reading, expected: dict[str, Any]) -> bool:
    """Whether the reading is the expected one. Where Ollama failed there is its error, and all that came before it."""
    calls = [(call["name"], call["arguments"]) for call in expected["tool_calls"]]
    got = [(name, as_recorded(case, arguments)) for name, arguments in reading.calls]
    if "error" in expected:
        return (
            reading.failure == expected["error"]
            and reading.content.startswith(expected["content"])
            and reading.thinking == expected["thinking"]
            and got[: len(calls)] == calls
        )
    return (reading.content, reading.thinking, got, reading.failure) == (
        expected["content"],
        expected["thinking"],
        calls,
        "",
    )


def check(case: Case) -> None:
    pieces = reading_of(case, case.pieces)
    assert any(matches(case, pieces, expected) for expected in case.expected), (case, pieces)
    assert reading_of(case, (case.text,)) == pieces, case


@pytest.mark.parametrize("name", PARSERS)
def test_recorded_answers_are_read_as_ollama_reads_them(name: str) -> None:
    cases = [case for case in CASES if case.parser == name]
    assert len(cases) >= 7
    for case in cases:
        check(case)


def test_every_recorded_answer_of_the_kit_is_read_as_ollama_reads_it() -> None:
    if not KIT.exists():
        pytest.skip("../shared (the library kit) is not beside this checkout")
    cases = cases_of(json.loads(KIT.read_text()))
    assert len(cases) >= 659
    for case in cases:
        check(case)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(CASES), st.data())
def test_the_borders_between_pieces_change_nothing(case: Case, data: st.DataObject) -> None:
    borders = data.draw(st.lists(st.integers(0, len(case.text)), max_size=20))
    cuts = [0, *sorted(borders), len(case.text)]
    pieces = tuple(case.text[start:end] for start, end in pairwise(cuts))
    assert reading_of(case, pieces) == reading_of(case, (case.text,))


@pytest.mark.parametrize("name", PARSERS)
def test_traits_are_ollamas(name: str) -> None:
    info, traits = GOLDEN["info"][name], PARSERS[name]
    assert (traits.tools, traits.thinking) == (info["tools"], info["thinking"])
    assert sorted(traits.preserved_tokens) == sorted(info["preserved_tokens"] or [])


def test_every_name_has_a_parser_and_an_unknown_one_has_none() -> None:
    assert PARSERS.keys() == GOLDEN["info"].keys()
    assert all(answer_parser(name, TOOLS, None, None) for name in PARSERS)
    assert answer_parser("no-such-parser", TOOLS, None, None) is None
