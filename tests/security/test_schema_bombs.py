"""Schema, grammar and pattern bombs: what is small to write and endless to compile is refused within seconds."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.fakes.server import RunningServer


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema, "b": schema}, "required": ["a"]}
    return schema


LAUGHS: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 9} for n in range(12)}
SCHEMAS: dict[str, Any] = {
    "laughs": {"$ref": "#/$defs/d0", "$defs": {**LAUGHS, "d12": {"type": "string"}}},
    "itself": {"$ref": "#"},
    "two": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "twice a level": nested(11),
    "lengths": {"type": "string", "minLength": 20_000, "maxLength": 20_000, "pattern": "^(a|b|ab)*$"},
    "items": {"type": "array", "items": nested(3), "minItems": 19_000},
    "reversed": {"type": "object", "properties": {"a": {"type": "string", "minLength": 5, "maxLength": 2}}},
    "digits": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 10**17}}, "required": ["a"]},
    "names": {"type": "object", "properties": {f"p{n}": {} for n in range(4000)}},
    "enum": {"enum": [f"value {n}" for n in range(20_000)]},
}
PATTERNS = [
    "(a+)+$",
    "^(a|a)*b$",
    "(.*a){30}",
    "a{1,20000}{1,20000}",
    "((((a{0,99}){0,99}){0,99}){0,99})",
    "(?=.*a)" * 40,
]
GRAMMARS = [
    'root ::= "a"{2,1}',
    'root ::= ("a"{0,2000}){0,2000}',
    'root ::= root "a"',
    'root ::= a\na ::= b\nb ::= a "x" | ""',
    'root ::= (("a"*)*)*',
    "root ::= " + "(" * 5000 + '"a"' + ")" * 5000,
]


async def in_time(server: RunningServer, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """The answer; fails when it takes long."""
    begin = time.monotonic()
    answer = await server.post(path, {"model": "jinja", **body})
    assert time.monotonic() - begin < 20
    assert answer[0] in {200, 400}, answer
    return answer


@pytest.mark.parametrize("name", SCHEMAS)
async def test_a_schema_is_held_or_refused_soon(server: RunningServer, name: str) -> None:
    await in_time(server, "/api/generate", {"prompt": "x", "format": SCHEMAS[name]})
    tool = {"type": "function", "function": {"name": "f", "parameters": SCHEMAS[name]}}
    user = [{"role": "user", "content": "x"}]
    status, _ = await in_time(server, "/v1/chat/completions", {"messages": user, "tools": [tool]})
    assert status in {200, 400}


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_a_pattern_is_held_or_refused_soon(server: RunningServer, pattern: str) -> None:
    for body in ({"regex": pattern}, {"format": {"type": "string", "pattern": pattern}}):
        await in_time(server, "/api/generate", {"prompt": "x", **body})


@pytest.mark.parametrize("grammar", GRAMMARS, ids=range(len(GRAMMARS)))
async def test_a_grammar_without_end_is_refused(server: RunningServer, grammar: str) -> None:
    status, reply = await in_time(server, "/api/generate", {"prompt": "x", "grammar": grammar})
    assert status == 400, reply
