"""Every API says of an answer that is not streamed that nobody sees it before its end: its tokens gather longer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.server import RunningServer

from corral.runner.gathering import GATHER_S, WHOLE_S, Rounds
from corral.runner.stream import EngineStream

MESSAGES = [{"role": "user", "content": "Hello"}]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"prompt": "Hello"}),
    ("/api/chat", {"messages": MESSAGES}),
    ("/v1/completions", {"prompt": "Hello"}),
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/responses", {"input": "Hello"}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 8}),
]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("path", "body"), CALLS, ids=[path for path, _ in CALLS])
@pytest.mark.parametrize("model", ["go", "jinja"])
async def test_how_long_tokens_may_gather(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any], stream: bool, model: str
) -> None:
    asked: set[float] = set()
    monkeypatch.setattr(EngineStream, "gather", lambda _self, _rounds, every_s: asked.add(every_s))
    status, _ = await server.call("POST", path, {"model": model, "stream": stream, **body})
    assert status == 200
    assert asked == {GATHER_S if stream else WHOLE_S}


async def test_answers_of_one_engine_are_looked_at_together(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[Rounds] = set()
    monkeypatch.setattr(EngineStream, "gather", lambda _self, rounds, _every_s: asked.add(rounds))
    for _ in range(2):
        assert (await server.post("/api/generate", {"model": "go", "prompt": "Hello"}))[0] == 200
    assert len(asked) == 1
