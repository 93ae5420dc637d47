"""Schemas that the engine's compiler has taken: read, finished, and tried for real. `checks.py` calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from corral.aio import run_computing
from corral.constraint.finishing import finished
from corral.constraint.keywords import pointer
from corral.constraint.lark import Lark
from corral.constraint.meeting import CannotHold
from corral.constraint.schema import Schema, read_schema
from corral.constraint.shapes import String
from corral.constraint.trial import Trial
from corral.core import Notice, Tool
from corral.errors import InvalidRequest

_MOST_TRIALS = 25  # of one schema; after each, a string that turned out impossible is left out or let go
_SAYS_MORE = (
    *("properties", "additionalProperties", "patternProperties", "propertyNames", "minProperties"),
    *("allOf", "anyOf", "oneOf", "$ref", "enum", "const"),
)


MAX_CHARACTERS = (
    2**20
)  # of a format's texts; a grammar made of more would be refused, having been written several times


async def compile_format(trial: Trial, schema: Any) -> Schema:
    """A format's schema, ready to be written; raises InvalidRequest naming keyword and place."""
    if await run_computing(_characters, schema) > MAX_CHARACTERS:
        raise InvalidRequest(f"invalid format: the schema has more than {MAX_CHARACTERS} characters", field="format")
    read = await run_computing(read_schema, schema, "format")
    try:
        return await _compiled(trial, read, lenient=False)
    except CannotHold as error:
        raise InvalidRequest(f"invalid format: {error} (at {error.place or '#'})", field="format") from error


async def compile_tool(trial: Trial, tool: Tool) -> tuple[Schema, tuple[Notice, ...]]:
    """A tool's schema as far as it can be held; any object, with a Notice, when nothing of it can."""
    field = f'tool "{tool.name}"'
    try:
        read = await run_computing(read_schema, _of_arguments(tool.parameters), field, lenient=True)
        made = await _compiled(trial, read, lenient=True)
    except (InvalidRequest, CannotHold) as error:
        place = f" (at {error.place})" if isinstance(error, CannotHold) and error.place else ""
        why = str(error) if isinstance(error, InvalidRequest) else f"invalid {field}: {error}{place}"
        return ANY_OBJECT, (Notice("tool_schema_not_enforced", why, {"tool": tool.name}),)
    if not made.loosened:
        return made, ()
    words = "; ".join(f"{keyword} at {', '.join(places)}" for keyword, places in made.loosened.items())
    text = f'calls of "{tool.name}" are not held to these parts of its schema: {words}'
    return made, (Notice("tool_schema_not_enforced", text, {"tool": tool.name, "keywords": dict(made.loosened)}),)


ANY_OBJECT = finished(read_schema({"type": "object"}, "format"))


def _characters(schema: Any) -> int:
    """Of all names and texts in plain data."""
    total, left = 0, [schema]
    while left:
        value = left.pop()
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            left += value
    return total


def _of_arguments(parameters: dict[str, Any]) -> dict[str, Any]:
    """A tool's schema is of an object, whatever it says; one that says no more has no arguments."""
    schema = {"type": "object", **{key: value for key, value in parameters.items() if key != "type"}}
    return schema if any(key in schema for key in _SAYS_MORE) else {**schema, "properties": {}}


async def _compiled(trial: Trial, schema: Schema, *, lenient: bool) -> Schema:
    """The finished schema; raises CannotHold. Leniently, strings that the compiler refuses may be any text."""
    dead: set[String] = set()
    loose: set[String] = set()
    for _ in range(_MOST_TRIALS):
        ready, lark, text = await run_computing(_written, schema, dead, loose)
        verdict = await trial.check(text)
        if not verdict.fault:
            return replace(ready, loosened=_with(schema.loosened, loose))
        leaf = lark.leaf_at(verdict.line)
        if leaf is None or (not lenient and not verdict.unsatisfiable):
            keyword = "" if leaf is None else f'"{leaf.keyword}": '
            place = lark.place_at(verdict.line) if leaf is None else pointer(leaf.place, leaf.keyword)
            raise CannotHold(f"{keyword}the engine cannot hold it: {_shortened(verdict.fault)}", place)
        (loose if lenient else dead).add(leaf)
    raise CannotHold("too many parts of it are impossible")


def _written(schema: Schema, dead: set[String], loose: set[String]) -> tuple[Schema, Lark, str]:
    ready = finished(schema, dead, loose)
    lark = Lark()
    return ready, lark, lark.text(lark.json(ready))


def _with(loosened: dict[str, list[str]], strings: set[String]) -> dict[str, list[str]]:
    made = {keyword: list(places) for keyword, places in loosened.items()}
    for leaf in strings:
        made.setdefault(leaf.keyword, []).append(leaf.place)
    return made


def _shortened(fault: str) -> str:
    return fault.partition(":  ")[0][:200]
