"""Forms: parts by name, bounded, whatever bytes come."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidRequest
from corral.server.form import MAX_FIELD_BYTES, MAX_PARTS, parse_form

KIND = "multipart/form-data; boundary=edge"


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def test_fields_lists_and_files_are_told_apart() -> None:
    body = part("model", "größer".encode()) + part("include[]", b"a") + part("include[]", b"b")
    body += part("file", b"\r\n--edg\0", '; filename="x.wav"\r\nContent-Type: audio/wav') + b"--edge--\r\n"
    form = parse_form(KIND, body)
    assert form.fields == {"model": "größer", "include": ["a", "b"]}
    assert form.files == {"file": b"\r\n--edg\0"}


def test_the_last_of_one_name_counts() -> None:
    assert parse_form(KIND, part("a", b"1") + part("a", b"2") + b"--edge--").fields == {"a": "2"}


def test_a_large_file_stays_in_memory_whole() -> None:
    data = bytes(range(256)) * 8192
    assert parse_form(KIND, part("file", data, '; filename="x"') + b"--edge--").files == {"file": data}


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        ("multipart/form-data", b"", "its Content-Type names no boundary"),
        (KIND, b"", "it is cut short"),
        (KIND, part("a", b"1"), "it is cut short"),
        (KIND, part("a", b"1") * (MAX_PARTS + 1) + b"--edge--", "it has more than 64 parts"),
        (KIND, part("a", bytes(MAX_FIELD_BYTES + 1)) + b"--edge--", "a field is longer than"),
        (KIND, b"--edge\r\nX: y\r\n\r\nv\r\n--edge--", "Field name not found"),
        (KIND, b"nonsense", "boundary"),
    ],
)
def test_a_form_that_cannot_be_read_is_refused_with_its_reason(kind: str, body: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^failed to parse multipart form: .*{why}"):
        parse_form(kind, body)


@given(st.data())
def test_any_bytes_are_a_form_or_a_reason(data: st.DataObject) -> None:
    body = (
        part("model", b"m") + part("file", b"abc", '; filename="x"\r\nContent-Transfer-Encoding: base64') + b"--edge--"
    )
    changed = bytearray(body[: data.draw(st.integers(0, len(body)))])
    for position in data.draw(st.lists(st.integers(0, max(0, len(changed) - 1)), max_size=4)) if changed else []:
        changed[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        parse_form(KIND, bytes(changed))
