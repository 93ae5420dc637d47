"""Fixtures of the HTTP tests: a server with two chat models and an embedding model, on fake runners; a guarded loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.fakes.blocking import guarded_loop
from tests.fakes.server import CHATML, JINJA, RunningServer, running_server


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call of the server's on the event loop fails the test."""
    with guarded_loop(request):
        yield


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """`go` is rendered here, `jinja` by the engine, `vectors` embeds."""
    async with running_server(tmp_path) as running:
        add_models(running)
        yield running


def add_models(running: RunningServer) -> None:
    """The models of the `server` fixture."""
    running.add("go", texts={"template": CHATML})
    running.add("jinja", jinja=JINJA)
    running.add("vectors", metadata={"llama.pooling_type": 1})
