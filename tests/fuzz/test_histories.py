"""Conversations by the thousand, on every API and on templates that refuse them: `make fuzz`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.ggufs import make_gguf
from tests.fakes.runner import FakeEngine
from tests.fakes.server import RunningServer, running_server
from tests.fakes.strict import GO_TEMPLATE
from tests.fuzz.answers import check_history
from tests.fuzz.histories import FORMS, TEMPLATES, Turn, conversations

from corral.store import manifests as media

pytestmark = pytest.mark.fuzz
WINDOW = 2**16
WIDE = {"llama.context_length": WINDOW}
LONG = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))


def add_seeing(server: RunningServer, folder: Path) -> None:
    """`sees`, templated by the engine, and `go-sees`, rendered here."""
    projector = make_gguf(folder / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    server.add("sees", jinja="{{ messages }}", metadata=WIDE, extra={media.PROJECTOR: projector})
    server.add("go-sees", metadata=WIDE, texts={"template": GO_TEMPLATE}, extra={media.PROJECTOR: projector})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with two models that see."""
    async with running_server(tmp_path, FakeEngine(context_window=WINDOW), context_length=WINDOW) as running:
        add_seeing(running, tmp_path)
        yield running


@LONG
@given(path=st.sampled_from(sorted(FORMS)), template=st.sampled_from([*sorted(TEMPLATES), "go"]), turns=conversations())
async def test_any_conversation_is_answered_and_nothing_of_it_is_lost(
    server: RunningServer, path: str, template: str, turns: list[Turn]
) -> None:
    await check_history(server, path, template, turns)
