"""Conversations that the engine's chat template refuses, on all APIs: fitted to it, or a plain 400."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.server import RunningServer

Turns = list[tuple[str, str]]
WITH_LATE_SYSTEM: Turns = [("user", "hi"), ("assistant", "yo"), ("user", "again"), ("system", "be brief")]


def alternates(messages: list[dict[str, Any]]) -> str:
    """As Gemma's template: a system message first, then user and assistant in turn."""
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    right = all(turn["role"] == ("assistant" if place % 2 else "user") for place, turn in enumerate(turns))
    return "" if right else "Conversation roles must alternate user/assistant/user/assistant/..."


def sent(server: RunningServer) -> Turns:
    """What the engine's chat got at last."""
    body = next(body for path, body in reversed(server.engine.bodies) if path == "/v1/chat/completions")
    return [(message["role"], message["content"]) for message in body["messages"]]


def body_of(path: str, turns: Turns) -> dict[str, Any]:
    """A request to a route of one of the APIs."""
    messages = [{"role": role, "content": text} for role, text in turns]
    if path == "/v1/responses":
        return {"model": "jinja", "input": messages}
    return {"model": "jinja", "messages": messages, **({"max_tokens": 9} if path == "/v1/messages" else {})}


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_a_late_system_message_becomes_the_users_words_where_it_stands(server: RunningServer, path: str) -> None:
    server.engine.refuses = alternates
    status, reply = await server.post(path, body_of(path, WITH_LATE_SYSTEM))
    assert status == 200, reply
    assert sent(server) == [("user", "hi"), ("assistant", "yo"), ("user", "again\n\nbe brief")]
    assert "warnings" not in reply


async def test_a_tolerant_template_gets_the_conversation_as_it_is(server: RunningServer) -> None:
    await server.post("/api/chat", body_of("/api/chat", WITH_LATE_SYSTEM))
    assert sent(server) == [*WITH_LATE_SYSTEM[:2], *WITH_LATE_SYSTEM[2:]]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("model", ["go", "jinja"])
async def test_developer_is_the_systems_turn(server: RunningServer, path: str, model: str) -> None:
    turns = [("developer", "RULE-ONE"), ("user", "hi")]
    status, _ = await server.post(path, {**body_of(path, turns), "model": model})
    assert status == 200
    if model == "jinja":
        assert sent(server) == [("system", "RULE-ONE"), ("user", "hi")]
    else:
        assert "<|im_start|>system\nRULE-ONE<|im_end|>" in server.engine.bodies[-1][1]["prompt"]


async def test_developer_messages_stay_when_the_window_is_too_small(server: RunningServer) -> None:
    turns = [("developer", "RULE-ONE"), ("user", "word " * 60), ("assistant", "ok"), ("user", "hi")]
    _, reply = await server.post("/api/chat", {**body_of("/api/chat", turns), "options": {"num_ctx": 40}})
    assert sent(server) == [("system", "RULE-ONE"), ("user", "hi")]
    assert reply["warnings"][0]["roles"] == ["user", "assistant"]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("num_ctx", [4096, 30])
async def test_a_template_that_takes_no_form_is_a_400_in_its_own_words(
    server: RunningServer, path: str, num_ctx: int
) -> None:
    server.engine.refuses = lambda _: "only poems, please"
    body = body_of(path, [("user", "word " * 30), ("assistant", "yo"), ("user", "hi")])
    status, reply = await server.post(path, {**body, "options": {"num_ctx": num_ctx}})
    error = reply["error"]
    assert (status, error if isinstance(error, str) else error["message"]) == (
        400,
        "the model's chat template does not take this conversation: only poems, please",
    )


async def test_a_conversation_that_is_cut_is_measured_in_the_form_that_is_taken(server: RunningServer) -> None:
    server.engine.refuses = alternates
    turns = [(role, f"{role} word " * 3) for _ in range(6) for role in ("user", "assistant")]
    body = body_of("/api/chat", [*turns, ("user", "one"), ("user", "two")])
    status, reply = await server.post("/api/chat", {**body, "options": {"num_ctx": 40}})
    assert status == 200, reply
    assert sent(server)[-1] == ("user", "one\n\ntwo")
    assert sent(server)[0][0] == "user"
    assert reply["warnings"][0]["code"] == "history_truncated"
