"""The promise about schemas, as a check: what is accepted compiles, and every text that it lets through is valid."""

from __future__ import annotations

import json
import random
import re
import warnings
from collections.abc import Iterator
from decimal import Decimal, localcontext
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from tests.unit.constraint.matching import sample

from corral.constraint.compiling import compile_format, compile_tool
from corral.constraint.lark import Lark
from corral.constraint.schema import Schema
from corral.constraint.trial import Trial
from corral.core import Tool
from corral.errors import InvalidRequest

_TEXTS = 4


async def check_promise(trial: Trial, schema: Any, seed: int) -> str:
    """Raise AssertionError when the promise is broken; else what became of the schema: refused, held, loosened."""
    try:
        held = await compile_format(trial, schema)
    except InvalidRequest as error:
        assert "(at #" in str(error), str(error)  # noqa: PT017  a refusal is right, too
        return "refused"
    _check_texts(held, schema, seed)
    return "loosened" if held.loosened else "held"


async def check_tool_promise(trial: Trial, schema: dict[str, Any], seed: int) -> None:
    """The same for a tool: nothing is refused, and what is said to be held is."""
    held, notices = await compile_tool(trial, Tool("t", parameters=schema))
    if not notices:
        _check_texts(held, {**schema, "type": "object"}, seed)
    else:
        lark = Lark()
        assert sample(lark.text(lark.json(held)), random.Random(seed)) != ""


def _check_texts(held: Schema, schema: Any, seed: int) -> None:
    lark = Lark()
    grammar = lark.text(lark.json(held))
    draw = random.Random(seed)
    validator = Draft202012Validator(_exact(schema), format_checker=Draft202012Validator.FORMAT_CHECKER)
    for _ in range(_TEXTS):
        text = sample(grammar, draw)
        if text is None:
            continue
        with localcontext(prec=200), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of Python's own patterns, in a class such as [a&&b]
            value = json.loads(text, parse_float=Decimal)
            try:
                broken = [error for error in validator.iter_errors(value) if not _is_loose(error, held)]
            except (re.error, TypeError, AttributeError, RecursionError):  # what this validator cannot read
                return
        assert not broken, (json.dumps(schema), text, broken[0].message)


def _is_loose(error: ValidationError, held: Schema) -> bool:
    """Whether an error is about keywords that were said not to be held."""
    words = {str(part) for leaf in _leaves(error) for part in (leaf.validator, *leaf.absolute_schema_path)}
    return not words.isdisjoint(held.loosened)


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    yield error
    for inner in error.context:
        yield from _leaves(inner)


def _exact(schema: Any) -> Any:
    """The schema as a validator reads it: numbers as decimals, for exact multiples; no keywords that are null."""
    return _without_nulls(json.loads(json.dumps(schema), parse_float=Decimal))


def _without_nulls(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in ("const", "enum") else _without_nulls(value)
        for key, value in schema.items()
        if value is not None or key == "const"
    }
