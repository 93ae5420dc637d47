"""Checks what a client wants its answer to match, before anything is loaded, and the answer once it is there.

`inference/` calls it; so does `fields.py`, which writes only what was checked.
"""

from __future__ import annotations

import json
from typing import Any

from corral.constraint.gbnf import gbnf_defines_root
from corral.constraint.schema import SchemaCheck, check_pattern
from corral.core import Constraint, Notice
from corral.errors import InvalidRequest
from corral.gojson import encode
from corral.goquote import quote

MAX_GRAMMAR_BYTES = 256 * 1024
MAX_CHOICES = 2000


def check_constraint(constraint: Constraint) -> tuple[Constraint, tuple[Notice, ...]]:
    """The constraint as the engine can compile it; raises InvalidRequest naming the keyword that is wrong."""
    match constraint.kind:
        case "schema":
            check = SchemaCheck("format")
            return Constraint("schema", check.clean(constraint.value)), check.notices
        case "regex":
            return Constraint("regex", check_pattern(constraint.value, "regex", "regex")), ()
        case "grammar":
            return Constraint("grammar", _check_grammar(constraint.value)), ()
        case "choice":
            return Constraint("choice", _check_choices(constraint.value)), ()
        case "unknown":
            shown = quote(encode(constraint.value, html=False)[:200])
            raise InvalidRequest(
                f'invalid format: {shown}; expected "json" or a valid JSON Schema object', field="format"
            )
        case _:
            return constraint, ()


def check_answer(constraint: Constraint | None, content: str) -> Notice | None:
    """After a reply that ended by itself: a Notice if JSON was promised and the content is none."""
    if constraint is None or constraint.kind not in ("json", "schema"):
        return None
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return Notice("format_not_met", "the answer is not valid JSON although a format was asked for")
    return None


def _check_grammar(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest("invalid grammar: must be GBNF text", field="grammar")
    if len(value) > MAX_GRAMMAR_BYTES:
        raise InvalidRequest(f"invalid grammar: larger than {MAX_GRAMMAR_BYTES} bytes", field="grammar")
    if not gbnf_defines_root(value):
        raise InvalidRequest('invalid grammar: GBNF must define "root ::= …"', field="grammar")
    return value


def _check_choices(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(c, str) and c for c in value):
        raise InvalidRequest("invalid choice: must be a list of texts that are not empty", field="choice")
    if len(value) > MAX_CHOICES or sum(map(len, value)) > MAX_GRAMMAR_BYTES:
        raise InvalidRequest(f"invalid choice: more than {MAX_CHOICES} texts or too long ones", field="choice")
    return list(value)
