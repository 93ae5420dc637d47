"""Requests that hypothesis draws, against a whole server on fake runners; `make fuzz` draws ten times as many.

What a search has found stands as a plain case elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.fakes.runner import FakeEngine
from tests.fakes.server import RunningServer, running_server
from tests.fuzz.answers import check_answer, check_history
from tests.fuzz.bodies import RAW, RIGHT, requests
from tests.fuzz.histories import FORMS, TEMPLATES, Turn, conversations
from tests.fuzz.test_histories import WINDOW, add_seeing

SHORT = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@SHORT
@given(request=requests())
@example(request=("/api/create", {"model": "made", "from": "go", "stream": False, "quantize": "x"}))
async def test_any_body_is_answered_or_refused_with_a_reason(
    server: RunningServer, request: tuple[str, dict[str, Any]]
) -> None:
    await check_answer(server, *request)


@SHORT
@given(path=st.sampled_from(sorted(RIGHT)), data=RAW)
async def test_any_bytes_are_answered_or_refused_with_a_reason(server: RunningServer, path: str, data: bytes) -> None:
    await check_answer(server, path, data)


@pytest.fixture
async def wide(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Two models that see, with a window for any number of pictures."""
    async with running_server(tmp_path, FakeEngine(context_window=WINDOW), context_length=WINDOW) as running:
        add_seeing(running, tmp_path)
        yield running


@SHORT
@given(path=st.sampled_from(sorted(FORMS)), template=st.sampled_from([*sorted(TEMPLATES), "go"]), turns=conversations())
async def test_any_conversation_is_answered_and_nothing_of_it_is_lost(
    wide: RunningServer, path: str, template: str, turns: list[Turn]
) -> None:
    await check_history(wide, path, template, turns)
