"""Writes shapes as JSON schemas for an engine without llguidance, whose own converter knows less. Pure.

Called by fields.py. What the converter would leave out or get wrong is refused here: it says nothing about it.
Source: llama.cpp common/json-schema.cpp, json-schema-to-grammar.cpp, 2026-10.
"""

from __future__ import annotations

from typing import Any

from corral.constraint.meeting import CannotHold
from corral.constraint.schema import Schema
from corral.constraint.shapes import (
    Anything,
    Array,
    Boolean,
    Bound,
    Either,
    Never,
    Null,
    Number,
    Object,
    Ref,
    Shape,
    String,
)

_FORMATS = ("date", "time", "date-time", "uuid")
_MOST_DIGITS = 15  # of an integer's bounds; with more, the converter writes repetitions that take all memory
_MOST_ITEMS = 900  # of a repetition; a grammar with more is refused, or the limit forgotten


def engine_schema(schema: Schema) -> dict[str, Any]:
    """The JSON schema; raises CannotHold."""
    names = {name: f"d{number}" for number, name in enumerate(schema.definitions)}
    root = _written(schema.root, names)
    if not names:
        return root
    return {**root, "$defs": {names[name]: _written(shape, names) for name, shape in schema.definitions.items()}}


def _written(shape: Shape, names: dict[str, str]) -> dict[str, Any]:
    match shape:
        case Never():
            raise CannotHold(shape.why, shape.place)
        case Ref():
            return {"$ref": f"#/$defs/{names[shape.name]}"}
        case Either():
            return {"anyOf": [_written(arm, names) for arm in shape.arms]}
        case Array():
            return _array(shape, names)
        case Object():
            return _object(shape, names)
        case _:
            return _simple(shape)


def _simple(shape: Anything | Null | Boolean | Number | String) -> dict[str, Any]:
    match shape:
        case Anything():
            return {}
        case Null():
            return {"type": "null"}
        case Boolean():
            return {"type": "boolean"} if len(shape.values) > 1 else {"const": shape.values[0]}
        case Number():
            return _number(shape)
        case String():
            return _string(shape)


def _number(shape: Number) -> dict[str, Any]:
    if shape.values is not None:
        return {"enum": [int(value) if value == int(value) else float(value) for value in shape.values]}
    bounds = {
        key: _whole(bound, up=key == "minimum", place=shape.place)
        for key, bound in (("minimum", shape.low), ("maximum", shape.high))
        if bound is not None
    }
    if shape.multiple is not None or (bounds and not shape.whole):
        raise CannotHold("this engine holds no bounds of numbers but integers, and no multiples", shape.place)
    return {"type": "integer" if shape.whole else "number", **bounds}


def _whole(bound: Bound, *, up: bool, place: str) -> int:
    value = int(bound.value.to_integral_value(rounding="ROUND_CEILING" if up else "ROUND_FLOOR"))
    if bound.exclusive and value == bound.value:
        value += 1 if up else -1
    if len(str(abs(value))) > _MOST_DIGITS:
        raise CannotHold(f"this engine holds no bounds of more than {_MOST_DIGITS} digits", place)
    return value


def _string(shape: String) -> dict[str, Any]:
    if shape.patterns:
        form = shape.given[0][1] if len(shape.given) == 1 and shape.given[0][0] == "format" else ""
        if form not in _FORMATS or shape.values is not None or shape.min_length or shape.max_length is not None:
            raise CannotHold("this engine holds no patterns, and of formats dates, times and uuid alone", shape.place)
        return {"type": "string", "format": form}
    if shape.values is not None:
        return {"enum": list(shape.values)}
    return {"type": "string", **_limits("Length", shape.min_length, shape.max_length, shape.place)}


def _limits(what: str, least: int, most: int | None, place: str) -> dict[str, int]:
    if max(least, most or 0) > _MOST_ITEMS:
        raise CannotHold(f'"max{what}" above {_MOST_ITEMS} is too much for this engine', place)
    return {f"min{what}": least} | ({} if most is None else {f"max{what}": most})


def _array(shape: Array, names: dict[str, str]) -> dict[str, Any]:
    if not shape.first:
        limits = _limits("Items", shape.min_items, shape.max_items, shape.place)
        items = {} if isinstance(shape.rest, Never) else {"items": _written(shape.rest, names)}
        return {"type": "array", **items, **limits}
    if shape.min_items != len(shape.first) or shape.max_items != len(shape.first):
        raise CannotHold("this engine holds lists of different items only when they have all of them", shape.place)
    return {"type": "array", "prefixItems": [_written(item, names) for item in shape.first]}


def _object(shape: Object, names: dict[str, str]) -> dict[str, Any]:
    impossible = any(isinstance(value, Never) for value in shape.properties.values())
    is_closed = isinstance(shape.additional, Never)
    if shape.patterns or shape.min_properties or shape.max_properties is not None or (impossible and not is_closed):
        raise CannotHold("this engine holds no patterns and no numbers of properties", shape.place)
    properties = {
        name: _written(value, names) for name, value in shape.properties.items() if not isinstance(value, Never)
    }
    additional: Any = False
    if not is_closed and shape.additional is not None:
        additional = True if isinstance(shape.additional, Anything) else _written(shape.additional, names)
    made = {"type": "object", "properties": properties, "required": list(shape.required)}
    return {**made, "additionalProperties": additional}
