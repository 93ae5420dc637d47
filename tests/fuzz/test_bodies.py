"""Request bodies by the thousand, against a whole server on fake runners: `make fuzz`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.server import RunningServer, running_server
from tests.fuzz.answers import check_answer
from tests.fuzz.bodies import RAW, RIGHT, requests
from tests.http.conftest import add_models

pytestmark = pytest.mark.fuzz
LONG = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """As for the HTTP tests."""
    async with running_server(tmp_path) as running:
        add_models(running)
        yield running


@LONG
@given(request=requests())
async def test_any_body_is_answered_or_refused_with_a_reason(
    server: RunningServer, request: tuple[str, dict[str, Any]]
) -> None:
    await check_answer(server, *request)


@LONG
@given(path=st.sampled_from(sorted(RIGHT)), data=RAW)
async def test_any_bytes_are_answered_or_refused_with_a_reason(server: RunningServer, path: str, data: bytes) -> None:
    await check_answer(server, path, data)
