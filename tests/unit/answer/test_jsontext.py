"""JSON of calls: the values, and what Go 1.26 says of texts that have none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.answer.jsontext import Unreadable, loads, loads_arguments, loads_call

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "unexpected end of JSON input"),
        ("  ", "unexpected end of JSON input"),
        ('{"a": 1', "unexpected end of JSON input"),
        ('{"a": "b', "unexpected end of JSON input"),
        ("not", "invalid character 'o' in literal null (expecting 'u')"),
        ("tru", "invalid character ' ' in literal true (expecting 'e')"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ('{"ö": ö}', "invalid character 'Ã' looking for beginning of value"),
        ("{'a': 1}", "invalid character '\\'' looking for beginning of object key string"),
        ('{"a": 1,}', "invalid character '}' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a": 1 "b"', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ('{"a": 1} x', "invalid character 'x' after top-level value"),
        ("01", "invalid character '1' after top-level value"),
        ("-", "invalid character ' ' in numeric literal"),
        ("1.", "invalid character ' ' after decimal point in numeric literal"),
        ("1e+", "invalid character ' ' in exponent of numeric literal"),
        ('"\x01"', "invalid character '\\x01' in string literal"),
        ('"\\x"', "invalid character 'x' in string escape code"),
        ('"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
    ],
)
def test_what_is_wrong_is_said_in_gos_words(text: str, why: str) -> None:
    with pytest.raises(Unreadable) as error:
        loads(text)
    assert str(error.value) == why


@given(VALUES)
def test_values_are_those_of_json(value: Any) -> None:
    assert loads(json.dumps(value)) == value


def reason(text: str) -> str | None:
    try:
        loads(text)
    except Unreadable as error:
        return str(error)
    return None


@given(st.text(alphabet='{}[]",:\\utrfn01-.eE+ \n\x01ö', max_size=40))
def test_any_text_is_a_value_or_unreadable_with_a_reason(text: str) -> None:
    assert reason(text) != ""


def test_halves_of_characters_become_one_that_encoders_take() -> None:
    assert loads('{"\\ud83d": ["\\ude00", "\\ud83d\\ude00"]}') == {"\ufffd": ["\ufffd", "😀"]}


@pytest.mark.parametrize(
    "text", ["[" * 101 + "]" * 101, '{"a":' * 100_000, "[" * 1_000_000, "NaN", "1e999", "9" * 5000]
)
def test_what_nobody_behind_could_carry_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        loads(text)


def test_deep_but_not_too_deep() -> None:
    assert loads("[" * 100 + "]" * 100)


def test_calls_and_arguments() -> None:
    assert loads_arguments("null") == {}
    assert loads_call('{"NAME": "f", "Arguments": {"a": 1}, "index": 3}', "T") == ("f", {"a": 1})
    assert loads_call('{"name": "f"}', "T") == ("f", {})
    for text in ("[]", '{"name": 1}', '{"name": "f", "arguments": "{}"}'):
        with pytest.raises(Unreadable):
            loads_call(text, "T")
