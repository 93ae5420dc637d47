"""The lines of a batch's input: where they are, and which cannot be asked. Blocking code; reads the file once.

A bad line is a result of its own, never the end of its batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from corral.api.batches import LineError
from corral.api.bodies import parse_object
from corral.errors import InvalidRequest

MAX_LINES = 50_000  # as OpenAI has it
MAX_LINE_BYTES = 8 * 2**20
MAX_ID_CHARACTERS = 512
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages")
_MOST_SEEN = 64  # characters of something that is quoted in an error


@dataclass(slots=True)
class Line:
    """One request: what identifies its result, and its JSON body."""

    custom_id: str
    body: dict[str, Any]


@dataclass
class Input:
    """The lines of a file: number (from 1) and place of each that is not blank. too_many: it has over MAX_LINES."""

    path: Path
    endpoint: str
    numbers: array[int] = field(default_factory=lambda: array("Q"))
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    repeated: dict[int, int] = field(default_factory=dict)  # line -> the earlier one with its custom_id
    too_many: bool = False

    def __len__(self) -> int:
        return len(self.numbers)


def read_input(path: Path, endpoint: str) -> Input:
    """Where a file's lines are, and which repeat an id. Raises OSError."""
    found, first = Input(path, endpoint), dict[str, int]()
    with path.open("rb") as file:
        for number, offset, raw in _lines(file):
            if not raw.strip():
                continue
            if len(found) == MAX_LINES:
                found.too_many = True
                break
            found.numbers.append(number)
            found.offsets.append(offset)
            custom_id = custom_id_of(raw)
            if custom_id and (earlier := first.setdefault(custom_id, number)) != number:
                found.repeated[number] = earlier
    return found


def _lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and bytes of each line; of one that is too long, one byte more than is allowed."""
    number = offset = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        start, offset, kept = offset, offset + len(raw), raw
        while not raw.endswith(b"\n") and (raw := file.readline(MAX_LINE_BYTES)):
            offset += len(raw)
        yield number, start, kept


class _Identified(msgspec.Struct):
    custom_id: Any = None


def custom_id_of(raw: bytes) -> str | None:
    """The line's id, if it has a usable one."""
    try:
        found = msgspec.json.decode(raw, type=_Identified).custom_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, str) and 0 < len(found) <= MAX_ID_CHARACTERS else None


def read_line(source: Input, index: int) -> Line | tuple[str | None, LineError]:
    """The request at `index`, or the id and the error of a line that is none. Raises OSError."""
    number = source.numbers[index]
    with source.path.open("rb") as file:
        file.seek(source.offsets[index])
        raw = file.readline(MAX_LINE_BYTES + 1)
    custom_id = custom_id_of(raw)
    if (earlier := source.repeated.get(number)) is not None:
        why = f"the custom_id of line {earlier} again"
        return custom_id, LineError("duplicate_custom_id", why, number)
    try:
        return _checked(raw, source.endpoint)
    except InvalidRequest as error:
        return custom_id, LineError(_code(error), str(error), number)


def _code(error: InvalidRequest) -> str:
    return {"": "invalid_json_line", "url": "mismatched_url", "body": "invalid_body"}.get(error.field, "invalid_line")


def _checked(raw: bytes, endpoint: str) -> Line:
    if len(raw) > MAX_LINE_BYTES:
        raise InvalidRequest(f"the line has more than {MAX_LINE_BYTES} bytes", field="line")
    line = parse_object(raw)
    custom_id, url, body = line.get("custom_id"), line.get("url"), line.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_ID_CHARACTERS:
        raise InvalidRequest(f"custom_id is a string of 1 to {MAX_ID_CHARACTERS} characters", field="custom_id")
    if line.get("method") != "POST":
        raise InvalidRequest("method is 'POST'", field="method")
    if url != endpoint:
        raise InvalidRequest(f"url is {str(url)[:_MOST_SEEN]!r}, the batch's endpoint {endpoint}", field="url")
    if not isinstance(body, dict):
        raise InvalidRequest("body is an object", field="body")
    if body.get("stream"):
        raise InvalidRequest("stream is not possible in a batch", field="body")
    return Line(custom_id, body)
