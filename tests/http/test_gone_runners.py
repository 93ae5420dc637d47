"""A request that meets a runner which died while idle is served by a fresh one; no other is asked twice."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.server import RunningServer

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "generate": ("/api/generate", {"model": "go", "prompt": "hi"}),
    "raw": ("/api/generate", {"model": "go", "prompt": "hi", "raw": True}),
    "rendered": ("/api/chat", {"model": "go", "messages": [{"role": "user", "content": "hi"}]}),
    "templated": ("/api/chat", {"model": "jinja", "messages": [{"role": "user", "content": "hi"}]}),
    "openai": ("/v1/chat/completions", {"model": "jinja", "messages": [{"role": "user", "content": "hi"}]}),
    "anthropic": ("/v1/messages", {"model": "go", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
    "embed": ("/api/embed", {"model": "vectors", "input": ["a", "b"]}),
    "tokenize": ("/api/tokenize", {"model": "go", "text": "hi"}),
    "detokenize": ("/api/detokenize", {"model": "go", "tokens": [0]}),
}


@pytest.mark.parametrize("name", ASKED)
async def test_a_runner_that_died_while_idle_costs_nobody_an_error(server: RunningServer, name: str) -> None:
    path, body = ASKED[name]
    status, before = await server.post(path, body)
    assert status == 200, before
    await server.until_idle()
    await server.launcher.runners[-1].vanish()
    status, after = await server.post(path, body)
    assert status == 200, after
    assert len(server.launcher.runners) == 2


async def test_it_is_no_failure_of_the_model(server: RunningServer) -> None:
    path, body = ASKED["generate"]
    for _ in range(8):  # more than open a circuit
        assert (await server.post(path, body))[0] == 200
        await server.until_idle()
        await server.launcher.runners[-1].vanish()
    assert (await server.post(path, body))[0] == 200


async def test_one_that_was_started_for_the_request_is_not_asked_again(server: RunningServer) -> None:
    server.engine.die_after = 0
    path, body = ASKED["raw"]
    status, reply = await server.post(path, body)
    assert status == 500
    assert "an error was encountered while running the model" in reply["error"]
    assert len(server.launcher.runners) == 1


async def test_an_answer_that_has_begun_is_not_begun_again(server: RunningServer) -> None:
    path, body = ASKED["raw"]
    assert (await server.post(path, body))[0] == 200
    server.engine.die_after = 1
    lines = await server.lines(path, body)
    assert [line["response"] for line in lines[:-1]] == [lines[0]["response"]]
    assert "an error was encountered" in lines[-1]["error"]
    assert len(server.launcher.runners) == 1
