"""Arguments as gemma4 writes them, `{city:<|"|>Köln<|"|>,days:3}`: JSON with bare keys and strings in marks of its own.

What is still no JSON then is repaired where the model's intent is plain; a repaired text is read by the same rules.
Every step is one pass. Source: ollama model/parsers/gemma4.go gemma4ArgsToJSON, gemma4RepairCandidates, 2026-08.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from corral.answer.jsontext import Unreadable, loads_arguments
from corral.answer.parsers.pieces import BLANKS

_MARK = '<|"|>'
_MARKED = re.compile(r'<\|"\|>(.*?)<\|"\|>', re.DOTALL)
_OPAQUE = r'<\|"\|>.*?(?:<\|"\|>|\Z)|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'  # strings, whose text is not looked into
_BARE_KEY = re.compile(rf"{_OPAQUE}|([{{,][{BLANKS}]*)(\w+):", re.DOTALL)
_SINGLE_QUOTED = re.compile(
    rf"{_OPAQUE}|(:[{BLANKS}]*)'([^'\\]*+(?:\\.[^'\\]*+)*+)(?:'(?:<\|\"\|>)?|(\\?\Z))", re.DOTALL
)
_NEXT_KEY = re.compile(rf",[{BLANKS}]*(\w+)[{BLANKS}]*:")
_PLACE = re.compile("\0([0-9]{1,9})\0")
_BEGINS_JSON = tuple("'\"{[-0123456789tfn")


def read_arguments(text: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, repaired if need be; `properties` is the tool's schema of them. Raises Unreadable."""
    try:
        return loads_arguments(_as_json(text))
    except Unreadable as error:
        for candidate in _repaired(text, properties):
            try:
                return loads_arguments(_as_json(candidate))
            except Unreadable:
                continue
        raise error


def _as_json(text: str) -> str:
    strings: list[str] = []

    def put_aside(found: re.Match[str]) -> str:
        strings.append(json.dumps(found[1], ensure_ascii=False))
        return f"\0{len(strings) - 1}\0"

    def put_back(found: re.Match[str]) -> str:
        place = int(found[1])
        return strings[place] if place < len(strings) else found[0]

    def quoted(found: re.Match[str]) -> str:
        return found[0] if found[2] is None else f'{found[1]}"{found[2]}":'

    return _PLACE.sub(put_back, _BARE_KEY.sub(quoted, _MARKED.sub(put_aside, text)))


def _repaired(text: str, properties: Mapping[str, Any]) -> Iterator[str]:
    quotes = _with_closed_string(_with_marked_quotes(text))
    yield quotes if quotes == text else _with_closed_object(quotes)
    bare = _with_marked_bare_string(text, properties)
    if bare is not None:
        yield _with_closed_object(_with_closed_string(_with_marked_quotes(bare)))


def _with_marked_quotes(text: str) -> str:
    """Values in single quotes become strings; a mark behind such a quote is left out."""

    def marked(found: re.Match[str]) -> str:
        if found[2] is None or found[3] is not None:
            return found[0]
        return f"{found[1]}{_MARK}{found[2]}{_MARK}"

    return _SINGLE_QUOTED.sub(marked, text)


def _with_closed_string(text: str) -> str:
    """A string that was not closed is closed at the end, within the last bracket."""
    if text.count(_MARK) % 2 == 0:
        return text
    end = len(text.rstrip(BLANKS))
    if text[:end].endswith(("}", "]")):
        end -= 1
    return text[:end] + _MARK + text[end:]


def _with_closed_object(text: str) -> str:
    end = len(text.rstrip(BLANKS))
    if not text.lstrip(BLANKS).startswith("{") or text[:end].endswith("}"):
        return text
    return text[:end] + "}" + text[end:]


def _with_marked_bare_string(text: str, properties: Mapping[str, Any]) -> str | None:
    """The first bare value of a parameter that may be a string becomes one, up to the next known parameter."""
    for key, schema in properties.items():
        start = _bare_value(text, key) if _may_be_string(schema) else None
        if start is not None:
            end = _bare_end(text, start, properties)
            return f"{text[:start]}{_MARK}{text[start:end]}{_MARK}{text[end:]}"
    return None


def _bare_value(text: str, key: str) -> int | None:
    """Where a value of this key begins that does not look like JSON."""
    for found in re.finditer(rf"{_OPAQUE}|[{{,][{BLANKS}]*{re.escape(key)}[{BLANKS}]*(:)", text, re.DOTALL):
        if found[1] is None:
            continue
        value = text[found.end() : found.end() + 64].lstrip(BLANKS)
        if not value.startswith(_MARK) and not value.startswith(_BEGINS_JSON):
            return found.end()
    return None


def _bare_end(text: str, start: int, properties: Mapping[str, Any]) -> int:
    for found in _NEXT_KEY.finditer(text, start):
        if found[1] in properties:
            return found.start()
    end = len(text.rstrip(BLANKS))
    return end - 1 if end > start and text[end - 1] == "}" else len(text)


def _may_be_string(schema: Any) -> bool:
    pending = [schema]
    for _ in range(1000):  # alternatives may hold alternatives, whose number the client chooses
        if not pending:
            return False
        current = pending.pop()
        if not isinstance(current, Mapping):
            continue
        kinds = current.get("type")
        names = kinds if isinstance(kinds, list) else [kinds]
        if any(isinstance(name, str) and name.lower() == "string" for name in names):
            return True
        options = current.get("anyOf")
        pending += options if isinstance(options, list) else []
    return False
