"""Schemas by the thousand: `make fuzz`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.promise import check_promise, check_tool_promise
from tests.fuzz.schemas import SCHEMAS

from corral.constraint.trial import Trial

pytestmark = pytest.mark.fuzz
LONG = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))


@LONG
@given(schema=SCHEMAS, seed=st.integers(0, 9))
async def test_what_a_schema_promises_holds(trial: Trial, schema: Any, seed: int) -> None:
    await check_promise(trial, schema, seed)


@LONG
@given(schema=SCHEMAS.filter(lambda schema: isinstance(schema, dict)), seed=st.integers(0, 9))
async def test_what_a_tools_schema_promises_holds(trial: Trial, schema: dict[str, Any], seed: int) -> None:
    await check_tool_promise(trial, schema, seed)
