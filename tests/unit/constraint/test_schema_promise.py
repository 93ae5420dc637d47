"""What is accepted compiles, and lets only valid texts through: over schemas that hypothesis draws.

`make fuzz` draws ten times as many. What a search has found stands as a plain case below.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.promise import check_promise, check_tool_promise
from tests.fuzz.schemas import SCHEMAS

from corral.constraint.trial import Trial

SHORT = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@SHORT
@given(schema=SCHEMAS, seed=st.integers(0, 9))
async def test_what_a_schema_promises_holds(trial: Trial, schema: Any, seed: int) -> None:
    await check_promise(trial, schema, seed)


@SHORT
@given(schema=SCHEMAS.filter(lambda schema: isinstance(schema, dict)), seed=st.integers(0, 9))
async def test_what_a_tools_schema_promises_holds(trial: Trial, schema: dict[str, Any], seed: int) -> None:
    await check_tool_promise(trial, schema, seed)


FOUND: list[Any] = [
    {"$ref": "#/$defs/d", "$defs": {"d": {"$ref": "#/$defs/d"}}},
    {"$ref": "#/$defs/d", "minProperties": 1, "$defs": {"d": {"anyOf": [{"$ref": "#/$defs/d"}, {"type": "object"}]}}},
    {"allOf": [{"$ref": "#"}, {"type": "object"}]},
    {"type": None},
    {"oneOf": [{"format": "hostname"}, {"type": "number", "minimum": 3}]},
    {"oneOf": [{"minLength": 3, "format": "uuid"}, {"enum": [[], [[], None, []]], "exclusiveMaximum": 0.5}]},
    {
        "type": "object",
        "patternProperties": {"^[a-z]+$": {}, "^a": {}},
        "propertyNames": {"enum": ["a", "b"]},
        "properties": {"b": True},
    },
]


@pytest.mark.parametrize("schema", FOUND, ids=str)
async def test_what_a_search_has_found_holds(trial: Trial, schema: Any) -> None:
    for seed in range(10):
        await check_promise(trial, schema, seed)
        await check_tool_promise(trial, schema, seed)
