"""JSON to the byte as Go's encoder writes it; the digests are Ollama's own (spec models §2.4)."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gojson import encode, encode_blob, format_float


@pytest.mark.parametrize(
    ("value", "digest"),
    [
        (
            {"temperature": 1.0, "top_k": 10, "stop": ["USER:", "ASSISTANT:"]},
            "1d0ad71299d48c2fb7ae2b98e683643e771f8a5b72be34942af90d97a91c1e37",
        ),
        (
            {"stop": ["<|endoftext|>"], "temperature": 0.6, "top_k": 10, "top_p": 0.7},
            "12f58bb75cb3042d69a7e013ab87fb3c3c7088f50ddc62f0c77bd332f0d44d35",
        ),
    ],
)
def test_blobs_have_ollamas_digests(value: Any, digest: str) -> None:
    assert hashlib.sha256(encode_blob(value, sort_keys=True)).hexdigest() == digest


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "x"]}, '{"b":1,"a":[true,null,"x"]}'),
        ("<a> & b", '"\\u003ca\\u003e \\u0026 b"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("é 😀 \x7f", '"é 😀 \x7f"'),
        ('"\\\n\r\t\b\f\x01', '"\\"\\\\\\n\\r\\t\\b\\f\\u0001"'),
        ("half \ud83d", '"half \ufffd"'),
        ((), "[]"),
        ({}, "{}"),
        (2**63 - 1, "9223372036854775807"),
    ],
)
def test_values_are_written_as_go_writes_them(value: Any, text: str) -> None:
    assert encode(value) == text
    encode_blob(value).decode()


def test_keys_are_sorted_only_when_asked() -> None:
    value = {"b": {"d": 1, "c": 2}, "B": 0, "a": 1}
    assert encode(value, sort_keys=True) == '{"B":0,"a":1,"b":{"c":2,"d":1}}'
    assert encode(value) == '{"b":{"d":1,"c":2},"B":0,"a":1}'


def test_html_and_spacing_can_be_chosen() -> None:
    assert encode({"a": ["<", 1]}, html=False, spaced=True) == '{"a": ["<", 1]}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (-0.0, "-0"),
        (100000.0, "100000"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (1.5e20, "150000000000000000000"),
        (1e21, "1e+21"),
        (1.25e22, "1.25e+22"),
        (1e-5, "0.00001"),
        (1.234567e-5, "0.00001234567"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (10.25, "10.25"),
    ],
)
def test_floats_are_written_as_go_writes_them(value: float, text: str) -> None:
    assert format_float(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="unsupported value"):
        format_float(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back_as_the_same_number(value: float) -> None:
    assert float(format_float(value)) == value


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_every_value_reads_back_as_itself(value: Any) -> None:
    text = encode(value, sort_keys=True)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")
