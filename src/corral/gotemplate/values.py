"""The values a template works on, and how Go prints, tests and compares them.

Plain Python data stands for Go's: None (nil), bool, int, float, str, list/tuple (slice), dict (map: a missing key is
nil, printed with sorted keys). The classes here are what Go has and Python lacks: records whose missing fields are
errors, and lists, maps and records that print themselves as JSON. `prompt/gorender.py` builds them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from corral.gojson import encode

_EXPONENT_FROM = 6


class Struct:
    """A Go struct: a field that it lacks is an execution error. Always true.

    `wire` is its JSON form in key order; without one it is the fields. `prints_json`: `{{ . }}` prints that JSON,
    else Go's `{a b}`.
    """

    __slots__ = ("fields", "prints_json", "type_name", "wire")

    def __init__(
        self,
        type_name: str,
        fields: Mapping[str, Any],
        *,
        wire: Mapping[str, Any] | None = None,
        prints_json: bool = False,
    ) -> None:
        self.type_name = type_name
        self.fields = fields
        self.wire = fields if wire is None else wire
        self.prints_json = prints_json


class JSONList(list[Any]):
    """A list that prints as a JSON array."""


class NilList(list[Any]):
    """A nil slice: empty, and `null` in JSON."""


class NilJSONList(NilList, JSONList):
    """A nil slice that prints as JSON: `null`."""


class JSONMap(dict[str, Any]):
    """A map that prints as a JSON object with sorted keys."""


class TypeNames(list[str]):
    """The type of a schema property: prints a single name bare, several as `[a b]`."""

    def __str__(self) -> str:
        return self[0] if len(self) == 1 else "[" + " ".join(self) + "]"


_TYPE_NAMES: dict[type, str] = {  # the first that fits
    type(None): "nil",
    bool: "bool",
    int: "int",
    float: "float64",
    complex: "complex128",
    str: "string",
    bytes: "[]uint8",
    JSONMap: "template.templateArgs",
    JSONList: "template.templateTools",
    dict: "map[string]interface {}",
}


def to_plain(value: Any) -> Any:
    """JSON data of a value: maps sorted by key, records in their own order, as Go's encoder does."""
    match value:
        case Struct(wire=wire):
            return {key: to_plain(item) for key, item in wire.items()}
        case NilList():
            return None
        case TypeNames():
            return value[0] if len(value) == 1 else list(value)
        case Mapping():
            return {str(key): to_plain(value[key]) for key in sorted(value, key=str)}
        case list() | tuple():
            return [to_plain(item) for item in value]
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value


def to_json(value: Any) -> str:
    """Compact JSON with Go's escaping; empty for what JSON cannot hold, as Ollama's `json` function."""
    try:
        return encode(to_plain(value))
    except ValueError:
        return ""


def type_name(value: Any) -> str:
    """Go's name of a value's type, as its error texts spell it."""
    if isinstance(value, Struct):
        return value.type_name
    for kind, name in _TYPE_NAMES.items():
        if isinstance(value, kind):
            return name
    return "[]interface {}"


def is_true(value: Any) -> bool:
    """Go's truth: false, 0, nil and anything empty are false; records are true."""
    return True if isinstance(value, Struct) else bool(value)


def prints_itself(value: Any) -> bool:
    """Whether Go's type of this value has a String method."""
    return isinstance(value, JSONList | JSONMap | TypeNames) or (isinstance(value, Struct) and value.prints_json)


def format_value(value: Any, *, nil: str = "<nil>") -> str:
    """A value as `%v` prints it; `nil` is how a bare nil prints (`<no value>` outside of printf)."""
    match value:
        case str():
            return value
        case None:
            return nil
        case bool():
            return "true" if value else "false"
        case float():
            return format_float(value)
        case complex():
            return _format_complex(value)
        case int():
            return str(value)
        case _:
            return _format_composite(value)


def _format_composite(value: Any) -> str:
    match value:
        case TypeNames():
            return str(value)
        case _ if prints_itself(value):
            return to_json(value)
        case Struct(fields=fields):
            return "{" + " ".join(format_value(item) for item in fields.values()) + "}"
        case Mapping():
            pairs = (f"{key}:{format_value(value[key])}" for key in sorted(value, key=str))
            return "map[" + " ".join(pairs) + "]"
        case list() | tuple() | bytes():
            return "[" + " ".join(format_value(item) for item in value) + "]"
        case _:
            return str(value)


def _format_complex(value: complex) -> str:
    imaginary = format_float(value.imag)
    sign = "" if imaginary.startswith(("-", "+")) else "+"
    return f"({format_float(value.real)}{sign}{imaginary}i)"


def format_float(value: float) -> str:
    """A float as `%v` prints it: the shortest digits, an exponent below 1e-4 and from 1e6 on. Source: Go strconv %g."""
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}[text]
    sign, digits, point = Decimal(text).normalize().as_tuple()
    shown = "".join(map(str, digits))
    exponent = len(digits) + int(point) - 1
    minus = "-" if sign else ""
    if value == 0:
        return minus + "0"
    if exponent < -4 or exponent >= _EXPONENT_FROM:
        fraction = f".{shown[1:]}" if len(shown) > 1 else ""
        return f"{minus}{shown[0]}{fraction}e{exponent:+03d}"
    return minus + format(abs(Decimal(text)), "f").removesuffix(".0")


class BadComparison(ValueError):
    """Two values that Go refuses to compare."""


def _kind(value: Any) -> str:
    if isinstance(value, TypeNames) and len(value) == 1:
        return "str"  # a property's type, compared with its name in published templates
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind.__name__
    return ""


def equal(left: Any, right: Any) -> bool:
    """Go's `==` inside `eq`: different basic kinds are an error, nil equals only nil."""
    if left is None or right is None:
        return left is right
    kinds = (_kind(left), _kind(right))
    if kinds[0] != kinds[1]:
        raise BadComparison(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")
    if not kinds[0]:
        raise BadComparison(f"non-comparable type {format_value(left)}: {type_name(left)}")
    return bool(_basic(left) == _basic(right))


def less(left: Any, right: Any) -> bool:
    """Go's `<` inside `lt`: numbers and strings only, both of one kind."""
    kinds = (_kind(left), _kind(right))
    if "" in kinds:
        raise BadComparison("invalid type for comparison")
    if kinds[0] != kinds[1]:
        raise BadComparison(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")
    if kinds[0] == "bool":
        raise BadComparison("invalid type for comparison")
    return bool(_basic(left) < _basic(right))


def _basic(value: Any) -> Any:
    return str(value) if isinstance(value, TypeNames) else value
