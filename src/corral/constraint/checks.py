"""Checks what a client wants its answer to match, before anything is loaded, and the answer once it is there.

`inference/` calls it; `fields.py` writes only what was checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from corral.aio import run_computing
from corral.constraint.compiling import ANY_OBJECT, compile_format, compile_tool
from corral.constraint.gbnfcheck import check_gbnf
from corral.constraint.lark import Lark
from corral.constraint.patterns import PatternError, whole_patterns
from corral.constraint.schema import Schema
from corral.constraint.trial import Trial
from corral.core import Constraint, Notice, Tool
from corral.errors import InvalidRequest
from corral.gojson import encode
from corral.goquote import quote

MAX_GRAMMAR_BYTES = 256 * 1024
MAX_CHOICES = 2000


async def check_constraint(trial: Trial, constraint: Constraint) -> tuple[Constraint, tuple[Notice, ...]]:
    """The constraint as `fields.py` writes it, compiled for real; raises InvalidRequest naming what is wrong.

    | kind            | value then                            |
    |-----------------|---------------------------------------|
    | schema          | schema.Schema, for json too           |
    | regex           | patterns that all match, Rust's words |
    | grammar, choice | as before                             |
    """
    match constraint.kind:
        case "schema":
            schema = await compile_format(trial, constraint.value)
            return Constraint("schema", schema), schema.notices
        case "json":
            return Constraint("schema", ANY_OBJECT), ()
        case "regex":
            return await _check_regex(trial, constraint.value), ()
        case "grammar":
            return Constraint("grammar", await run_computing(_check_grammar, constraint.value)), ()
        case "choice":
            return Constraint("choice", _check_choices(constraint.value)), ()
        case "unknown":
            shown = quote(encode(constraint.value, html=False)[:200])
            raise InvalidRequest(
                f'invalid format: {shown}; expected "json" or a valid JSON Schema object', field="format"
            )


async def check_tools(trial: Trial, tools: Sequence[Tool]) -> tuple[dict[str, Schema], tuple[Notice, ...]]:
    """What arguments each tool's calls are held to, by name; and which parts of schemas they are not held to."""
    schemas: dict[str, Schema] = {}
    notices: list[Notice] = []
    for tool in tools:
        schemas[tool.name], more = await compile_tool(trial, tool)
        notices.extend(more)
    return schemas, tuple(notices)


async def check_whole(trial: Trial, body: Mapping[str, Any]) -> None:
    """An engine request's grammar, made of parts that were checked one by one, as a whole.

    Raises InvalidRequest when they are too much together.
    """
    grammar = body.get("grammar", "")
    if not grammar.startswith("%llguidance"):
        return
    verdict = await trial.check(grammar)
    if verdict.fault:
        raise InvalidRequest(f"the tools' schemas and the format are too much together: {verdict.fault[:200]}")


def check_answer(constraint: Constraint | None, content: str) -> Notice | None:
    """After a reply that ended by itself: a Notice if JSON was promised and the content is none."""
    if constraint is None or constraint.kind != "schema":
        return None
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return Notice("format_not_met", "the answer is not valid JSON although a format was asked for")
    return None


async def _check_regex(trial: Trial, pattern: Any) -> Constraint:
    def fail(why: str) -> NoReturn:
        raise InvalidRequest(f"invalid regex: {why}", field="regex")

    if not isinstance(pattern, str) or not pattern:
        fail("must be a regular expression")
    try:
        patterns = whole_patterns(pattern)
    except PatternError as error:
        fail(str(error))
    lark = Lark()
    verdict = await trial.check(lark.text(lark.regex(patterns)))
    if verdict.fault:
        fail(f"the engine cannot hold it: {verdict.fault[:200]}")
    return Constraint("regex", patterns)


def _check_grammar(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest("invalid grammar: must be GBNF text", field="grammar")
    if len(value) > MAX_GRAMMAR_BYTES:
        raise InvalidRequest(f"invalid grammar: larger than {MAX_GRAMMAR_BYTES} bytes", field="grammar")
    check_gbnf(value)
    return value


def _check_choices(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(c, str) and c for c in value):
        raise InvalidRequest("invalid choice: must be a list of texts that are not empty", field="choice")
    if len(value) > MAX_CHOICES or sum(map(len, value)) > MAX_GRAMMAR_BYTES:
        raise InvalidRequest(f"invalid choice: more than {MAX_CHOICES} texts or too long ones", field="choice")
    return list(value)
