"""What all APIs read the same way: base64 as clients write it, arguments of calls, texts and images in order."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api.arguments import ArgumentReader
from corral.api.bodies import (
    decode_base64,
    decode_data_url,
    parse_object,
    unknown_notices,
)
from corral.api.parts import Parts
from corral.core import Message
from corral.errors import InvalidRequest
from corral.jsonbudget import MAX_CONTAINERS, MAX_DEPTH, MAX_MEMBERS, MAX_VALUES


@given(st.binary(), st.booleans(), st.booleans())
def test_base64_is_read_in_either_alphabet_padded_or_not_with_blanks(data: bytes, url_safe: bool, padded: bool) -> None:
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    assert decode_base64(f" {text[:5]}\r\n\t{text[5:]} ") == data


@pytest.mark.parametrize("text", ["@@", "QUJD!", "Q", "QUJDR", "QQ==QQ==", "\udc00"])
def test_what_is_no_base64_is_none(text: str) -> None:
    assert decode_base64(text) is None


@pytest.mark.parametrize("url", ["", "QUJD", "data:image/png,QUJD", "data:text/plain;base64,QUJD", "http://x/y.png"])
def test_what_is_no_data_url_of_an_image_is_none(url: str) -> None:
    assert decode_data_url(url) is None


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _VALUES, max_size=4), st.booleans(), st.data())
def test_arguments_are_read_whole_and_what_broke_off_is_kept_as_it_is(
    values: dict[str, Any], ascii_only: bool, data: st.DataObject
) -> None:
    text = json.dumps(values, ensure_ascii=ascii_only)
    assert ArgumentReader().read(text) == ArgumentReader().keep(text) == values
    cut = text[: data.draw(st.integers(1, len(text) - 1))]
    assert ArgumentReader().keep(cut) == {"unreadable_arguments": cut}
    assert ArgumentReader().read(cut) == ({"unreadable_arguments": cut} if '"' in cut else None)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (None, {}),
        ("  ", {}),
        ("null", {}),
        ({"a": 1}, {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ('{"a": 12345678901234567890}', {"a": 12345678901234567890}),
        ('{"text": "two\nlines"}', {"text": "two\nlines"}),
    ],
)
def test_arguments_in_every_form_that_clients_send(sent: Any, read: dict[str, Any]) -> None:
    assert ArgumentReader().read(sent) == ArgumentReader().keep(sent) == read


@pytest.mark.parametrize("sent", ["words", "[1]", [1], 5, True, "5"])
def test_arguments_that_are_no_object_are_kept_as_one(sent: Any) -> None:
    assert ArgumentReader().keep(sent) == {"unreadable_arguments": sent}


@pytest.mark.parametrize(
    ("text", "often", "why"),
    [
        ("[" + "[]," * 999 + "[]]", MAX_CONTAINERS // 1001, "objects and arrays"),
        ("{" + '"a":1,' * 9_999 + '"a":1}', MAX_MEMBERS // 10_000, "members"),
        ("[" + "1," * 10_000 + "1]", (MAX_VALUES - 1) // 10_000, "values"),
    ],
)
def test_the_arguments_of_all_calls_have_a_bodys_parts_together(text: str, often: int, why: str) -> None:
    for wrap in (str, json.dumps):  # as JSON, and as a JSON string of it
        reader = ArgumentReader()
        for _ in range(often):
            reader.keep(wrap(text))
        with pytest.raises(InvalidRequest, match=why):
            reader.keep(wrap(text))


def test_arguments_nested_deeper_than_a_body_are_refused_and_brackets_in_strings_are_none() -> None:
    for deep in ('{"a":' * (MAX_DEPTH + 1), '{"a":' * 100_000, json.dumps('{"a":' * (MAX_DEPTH + 1))):
        with pytest.raises(InvalidRequest, match="nested over"):
            ArgumentReader().keep(deep)
    code = {"code": "[{,:" * MAX_CONTAINERS}
    assert ArgumentReader().keep(json.dumps(code)) == code


def test_parts_are_joined_and_their_images_stand_between() -> None:
    parts = Parts("\n\n")
    assert not parts
    parts.add_image(b"1")
    parts.add_text("a")
    parts.add_texts(["b", "c"])
    parts.add_image(b"2")
    parts.add_image(b"3")
    parts.add_text("d")
    assert parts.message("user") == Message("user", "a\n\nb\n\ncd", images=(b"1", b"2", b"3"), places=(0, 7, 7))


@pytest.mark.parametrize(
    ("opening", "part", "most", "closing", "why"),
    [
        (b'{"x":[', b"[]", MAX_CONTAINERS - 2, b"]}", "objects and arrays"),
        (b'{"x":[', b"1", MAX_VALUES, b"]}", "values"),
        (b"{", b'"x":1', MAX_MEMBERS, b"}", "members"),
    ],
)
def test_a_body_has_as_many_parts_as_it_may_and_no_more(
    opening: bytes, part: bytes, most: int, closing: bytes, why: str
) -> None:
    parse_object(opening + b",".join([part] * most) + closing)
    with pytest.raises(InvalidRequest, match=why):
        parse_object(opening + b",".join([part] * (most + 1)) + closing)


@given(st.text(alphabet='a"\\[]{},:\n\u00e9', max_size=60))
def test_what_stands_in_texts_is_no_part(text: str) -> None:
    often = {"x": [text] * 3, "y": "[" * (MAX_DEPTH + 1), "z": ",:" * MAX_VALUES}
    assert parse_object(json.dumps(often).encode()) == often


class _Shape(msgspec.Struct):
    known: int = 0


def test_unknown_fields_are_named_and_of_very_many_the_rest_is_counted() -> None:
    few = unknown_notices({"known": 1, "a": 1, "b": 1}, _Shape)
    assert [notice.facts for notice in few] == [{"parameter": "a"}, {"parameter": "b"}]
    many = unknown_notices({f"p{number}": 1 for number in range(100_000)}, _Shape)
    assert len(many) == 101
    assert many[-1].message == "99900 more parameters are not known and were ignored"
