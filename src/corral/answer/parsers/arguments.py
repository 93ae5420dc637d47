"""Arguments that arrive as bare text: what the tool's schema makes of them. Shared by the XML-like formats.

Source: ollama model/parsers/qwen3coder.go parseValue, parseTypedToolValue, 2026-08. Departures: a number that JSON
cannot hold (`inf`) stays the text that it was, and a schema may be named by `$ref`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corral.answer.jsontext import Unreadable, loads
from corral.core import Tool

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX_NUMBER = re.compile(r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+")
_MOST_REFERENCES = 8  # one behind the other
_LARGEST, _SMALLEST = 2**63 - 1, -(2**63)


class Schemas:
    """The types that the tools' schemas give to parameters."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._parameters: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            self._parameters.setdefault(tool.name, _mapping(tool.parameters))

    def __contains__(self, function: str) -> bool:
        return function in self._parameters

    def properties(self, function: str) -> Mapping[str, Any]:
        """A function's parameters with their schemas; none for an unknown function."""
        return _mapping(self._parameters.get(function, {}).get("properties"))

    def types(self, function: str, parameter: str) -> tuple[str, ...]:
        """Names of the types a parameter may have; of all alternatives of an `anyOf`. Empty = nothing is known."""
        schema = self._resolved(function, _mapping(self.properties(function).get(parameter)))
        alternatives = schema.get("anyOf")
        if isinstance(alternatives, list) and alternatives:
            return tuple(name for option in alternatives for name in _names(_mapping(option).get("type")))
        return _names(schema.get("type"))

    def _resolved(self, function: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema that a `$ref` into the tool's own parameters means."""
        for _ in range(_MOST_REFERENCES):
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#/"):
                break
            schema = self._parameters[function]
            for part in reference.removeprefix("#/").split("/"):
                schema = _mapping(schema.get(part.replace("~1", "/").replace("~0", "~")))
        return schema

    def value(self, function: str, parameter: str, raw: str) -> Any:
        """The value of a parameter's text, without the line breaks that frame it."""
        return typed_value(raw.removeprefix("\n").removesuffix("\n"), self.types(function, parameter))


def typed_value(raw: str, types: Sequence[str]) -> Any:
    """The most specific of the types that fits; the text itself when none does."""
    if raw.lower() == "null":
        return None
    for name, read in _READERS.items():
        if name in types:
            value = read(raw)
            if value is not None:
                return value
            if name == "boolean" and len(types) == 1:
                return False
    return raw


def integer(raw: str) -> int | None:
    """A 64-bit whole number as Go's ParseInt takes it."""
    if len(raw) > 20 or _INTEGER.fullmatch(raw) is None:
        return None
    value = int(raw)
    return value if _SMALLEST <= value <= _LARGEST else None


def number(raw: str) -> int | float | None:
    """A finite number as Go's ParseFloat takes it; whole ones are int."""
    if _NUMBER.fullmatch(raw):
        value = float(raw)
    elif _HEX_NUMBER.fullmatch(raw):
        try:
            value = float.fromhex(raw)
        except OverflowError:
            return None
    else:
        return None
    if math.isinf(value):
        return None
    return int(value) if value.is_integer() else value


def _boolean(raw: str) -> bool | None:
    return {"true": True, "false": False}.get(raw.lower())


def _json(kind: type) -> Callable[[str], Any]:
    def read(raw: str) -> Any:
        try:
            value = loads(raw)
        except Unreadable:
            return None
        return value if isinstance(value, kind) else None

    return read


_READERS: Mapping[str, Callable[[str], Any]] = {  # the most specific first
    "boolean": _boolean,
    "integer": integer,
    "number": number,
    "array": _json(list),
    "object": _json(dict),
}


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
