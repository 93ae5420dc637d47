"""JSON request bodies: text to checked data, with errors that name the field. Used by the wire shapes of all APIs.

| body                         | answer                                          |
|------------------------------|-------------------------------------------------|
| empty, blank                 | InvalidRequest `missing request body`           |
| `null`                       | an empty object                                 |
| not an object                | InvalidRequest naming what it is                |
| cut short                    | InvalidRequest `unexpected EOF`                 |
| nested over 1,000 levels     | InvalidRequest                                  |
| more parts than any window   | InvalidRequest, before anything is decoded      |
| broken UTF-8, half a pair    | U+FFFD in its place                             |
| a field of the wrong type    | InvalidRequest, `field` is its path             |
| an unknown field             | ignored, and reported to the caller             |

Source of the texts: ollama server/routes.go (gin binding), 2026-08.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Hashable, Mapping
from functools import cache, partial
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import msgspec

from corral.core import Notice
from corral.errors import InvalidRequest
from corral.jsonbudget import MAX_DEPTH, MAX_MEMBERS, PartBudget, too_deep

T = TypeVar("T")

_MOST_NAMED = 100  # unknown fields, each with a notice of its own
_KINDS = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
_WORDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a character, or the first of both halves
# Up to a half without its other one, which is the group; pairs and other escapes are passed over.
_TO_HALF = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F][0-9a-fA-F]{2}).)*+"
    rb"(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)
_REPLACING = partial(codecs.getincrementaldecoder("utf-8"), "replace")
_PIECE_BYTES = 64 * 1024
_STANDARD = bytes.maketrans(b"-_", b"+/")
_BLANKS = b" \t\r\n\f\v"
_DATA_URL = re.compile(r"data:(?:image/(?:jpeg|jpg|png|webp))?(?:;[^;,]*)*;base64,", re.IGNORECASE)  # Ollama's types
_decode = msgspec.json.Decoder().decode


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises InvalidRequest for anything else."""
    if not data or data.isspace():
        raise InvalidRequest("missing request body")
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH or data.count(b",") >= MAX_MEMBERS:
        PartBudget().take(data)
    try:
        value = _decode(data)
    except RecursionError:
        raise too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = _decode_mended(data)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"json: the request body must be an object, not {_KINDS.get(type(value), 'this')}")
    return value


def convert(value: Mapping[str, Any], shape: type[T], path: str = "", *, from_texts: bool = False) -> T:
    """Check plain data against a msgspec Struct; nulls at the top level count as absent.

    Raises InvalidRequest whose text and `field` name the field; `path` is where in the request the data stands.
    `from_texts`: numbers and booleans may be written as texts, as they are in a form.
    """
    present = {key: item for key, item in value.items() if item is not None}
    try:
        return msgspec.convert(present, shape, strict=not from_texts)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error), path) from None


def text_at(item: Mapping[str, Any], key: str, where: str) -> str:
    """A text inside plain data that no wire shape covers; "" where it is absent or null.

    Raises InvalidRequest naming `where` and the key for any other type.
    """
    value = item.get(key)
    if value is not None and not isinstance(value, str):
        raise _not_a("string", value, f"{where}.{key}")
    return value or ""


def list_at(item: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """A list inside plain data, as text_at; empty where it is absent or null."""
    value = item.get(key)
    if value is not None and not isinstance(value, list):
        raise _not_a("array", value, f"{where}.{key}")
    return value or []


def _not_a(wanted: str, value: Any, field: str) -> InvalidRequest:
    return InvalidRequest(
        f'json: field "{field}" must be of type {wanted}, not {_KINDS.get(type(value), "object")}', field=field
    )


def decode_base64(text: str) -> bytes | None:
    """The bytes of base64 as clients write it: either alphabet, padded or not, blanks anywhere; None if it is not."""
    data = text.encode("utf-8", "surrogatepass").translate(_STANDARD, _BLANKS).rstrip(b"=")
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error:
        return None


def decode_data_url(url: str) -> bytes | None:
    """The bytes of a data URL of an image, whatever its parameters and letters; None for any other text."""
    match = _DATA_URL.match(url)
    if match is None:
        return None
    data = url[match.end() :]
    return decode_base64(unquote(data) if "%" in data else data)


def unknown_fields(value: Mapping[str, Any], shape: type[Any]) -> list[str]:
    """Names in a request that its wire shape does not have, in the order sent."""
    known = _field_names(cast("Hashable", shape))
    return [name for name in value if name not in known]


def unknown_notices(value: Mapping[str, Any], shape: type[Any]) -> tuple[Notice, ...]:
    """A notice for each unknown field of a request; of very many the first are named, the others counted."""
    names = unknown_fields(value, shape)
    notices = [
        Notice("parameter_unknown", f'parameter "{name[:100]}" is not known and was ignored', {"parameter": name[:100]})
        for name in names[:_MOST_NAMED]
    ]
    if more := len(names) - len(notices):
        notices.append(Notice("parameter_unknown", f"{more} more parameters are not known and were ignored"))
    return tuple(notices)


@cache
def _field_names(shape: Hashable) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(cast("type[msgspec.Struct]", shape)))


def _decode_mended(data: bytes) -> Any:
    """Decodes text with broken UTF-8 or halves of surrogate pairs; both become U+FFFD, as in Go's decoder."""
    whole = _as_utf8(data)
    try:
        return _decode(_without_halves(whole) if _HALF.search(whole) else whole)
    except msgspec.DecodeError as error:
        text = str(error)
        raise InvalidRequest("unexpected EOF" if "truncated" in text else f"invalid JSON: {text}") from None


def _as_utf8(data: bytes) -> bytearray:
    """The text with U+FFFD for what is no character; in pieces, since a whole one would hold the interpreter."""
    decoder, mended = _REPLACING(), bytearray()
    for start in range(0, len(data), _PIECE_BYTES):
        mended += decoder.decode(data[start : start + _PIECE_BYTES]).encode()
    mended += decoder.decode(b"", final=True).encode()
    return mended


def _without_halves(data: bytearray) -> bytearray:
    """The text with U+FFFD for each half; one copy of it, however many there are."""
    mended, place = bytearray(), 0
    view = memoryview(data)
    while match := _TO_HALF.match(data, place):
        mended += view[place : match.start(1)]
        mended += b"\\ufffd"
        place = match.end()
    mended += view[place:]
    return mended


def _wrong_type(text: str, path: str) -> InvalidRequest:
    """Turn "Expected `bool | null`, got `str` - at `$.stream`" into a sentence that starts with the field."""
    match = re.fullmatch(r"Expected (.+?), got (`.+?`)(?: - at `\$\.?(.*)`)?", text)
    if not match:
        return InvalidRequest(f"json: {text}")
    want, got, inner = match.groups()
    field = ".".join(part for part in (path, inner) if part)
    wanted = [part for part in want.strip("`").split(" | ") if part != "null"] or ["null"]
    words = " or ".join(_WORDS.get(part, part) for part in wanted)
    got = got.strip("`")
    why = f'json: field "{field}" must be of type {words}, not {_WORDS.get(got, got)}'
    return InvalidRequest(why, field=field)
