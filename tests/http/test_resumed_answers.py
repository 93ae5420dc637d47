"""An answer whose runner is lost in its middle goes on with another one, and its client sees no seam."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fakes.server import RunningServer

GREEDY = {"temperature": 0}
SEEDED = {"temperature": 1.0, "seed": 7}
HI = [{"role": "user", "content": "hi"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "raw": ("/api/generate", {"model": "go", "prompt": "hi", "raw": True, "options": GREEDY}),
    "seeded": ("/api/generate", {"model": "go", "prompt": "hi", "options": SEEDED}),
    "rendered": ("/api/chat", {"model": "go", "messages": HI, "options": GREEDY}),
    "templated": ("/api/chat", {"model": "jinja", "messages": HI, "options": GREEDY}),
    "logprobs": ("/api/chat", {"model": "jinja", "messages": HI, "options": GREEDY, "logprobs": True}),
    "format": ("/api/chat", {"model": "go", "messages": HI, "options": GREEDY, "format": "json"}),
    "openai": ("/v1/chat/completions", {"model": "jinja", "messages": HI, "temperature": 0, "stream": True}),
    "responses": ("/v1/responses", {"model": "go", "input": "hi", "temperature": 0, "stream": True}),
    "anthropic": ("/v1/messages", {"model": "go", "max_tokens": 9, "messages": HI, "temperature": 0, "stream": True}),
}
TOOLS_JINJA = "{% if tools %}{{ tools }}{% endif %}<think>{% for m in messages %}{{ m.content }}{% endfor %}"
CALLED: list[dict[str, Any]] = [
    {"reasoning_content": "Rain"},
    {"reasoning_content": " perhaps."},
    {"content": "Let me"},
    {"content": " see."},
    {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "weather", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": ' "Ulm"}'}}]},
    {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}]},
]
_CHANGING = ("id", "created", "created_at", "item_id", "call_id", "response_id", "completed_at")


def seen(text: str) -> list[Any]:
    """The events of a stream without what no two answers have in common."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: part for key, part in value.items() if key not in _CHANGING and "duration" not in key}
            return {key: bare(part) for key, part in kept.items()}
        return [bare(part) for part in value] if isinstance(value, list) else value

    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    return [bare(json.loads(line)) for line in lines if line.startswith("{")]


async def ask(server: RunningServer, name: str) -> list[Any]:
    path, body = ASKED[name]
    status, text = await server.call("POST", path, {"stream": True, **body})
    assert status == 200, text
    return seen(text)


def dies_once(server: RunningServer, after: int) -> None:
    """The next runner dies after so many tokens, the one behind it does not."""
    server.engine.die_after = after
    server.engine.on_death = lambda: setattr(server.engine, "die_after", None)


async def counted(server: RunningServer) -> dict[str, float]:
    _, text = await server.call("GET", "/metrics")
    rows = [line for line in text.splitlines() if line.startswith("corral_resumed_answers_total{")]
    return {row.split('"')[1]: float(row.split()[-1]) for row in rows}


@pytest.mark.parametrize("after", [1, 4])
@pytest.mark.parametrize("name", ASKED)
async def test_the_stream_is_the_one_without_the_death(server: RunningServer, name: str, after: int) -> None:
    expected = await ask(server, name)
    dies_once(server, after)
    assert await ask(server, name) == expected
    assert len(server.launcher.runners) == 2
    assert await counted(server) == {"went on": 1}


@pytest.mark.parametrize("after", [1, 3, 5, 7])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_thinking_and_calls_come_once_and_whole(server: RunningServer, path: str, after: int) -> None:
    server.add("tools", jinja=TOOLS_JINJA)
    server.engine.chat_deltas = CALLED
    asked = {"model": "tools", "messages": HI, "stream": True, "temperature": 0, "options": GREEDY}
    tool = WEATHER if path != "/v1/messages" else {"name": "weather", "input_schema": {"type": "object"}}
    asked |= {"tools": [tool], "max_tokens": 50}
    _, text = await server.call("POST", path, asked)
    dies_once(server, after)
    _, again = await server.call("POST", path, asked)
    assert seen(again) == seen(text)
    assert len(server.launcher.runners) == 2


async def test_counts_are_those_of_the_whole_answer(server: RunningServer) -> None:
    dies_once(server, 3)
    last = (await server.lines(*ASKED["raw"]))[-1]
    assert (last["done_reason"], last["eval_count"]) == ("stop", 5)
    assert last["total_duration"] >= last["load_duration"] > 0


async def test_one_that_is_not_streamed_goes_on_too(server: RunningServer) -> None:
    dies_once(server, 3)
    path, body = ASKED["rendered"]
    status, reply = await server.post(path, body)
    assert (status, reply["message"]["content"]) == (200, server.engine.reply)


async def test_another_answer_than_the_one_that_was_begun_is_an_error(server: RunningServer) -> None:
    path, body = ASKED["raw"]
    server.engine.die_after = 3

    def other() -> None:
        server.engine.die_after, server.engine.reply = None, "Hello from somebody else."

    server.engine.on_death = other
    lines = await server.lines(path, body)
    assert "".join(line["response"] for line in lines[:-1]) == "Hello from the"
    assert "the answer cannot go on elsewhere: made again it became another one" in lines[-1]["error"]
    assert await counted(server) == {"differed": 1}


async def test_a_shorter_answer_than_the_one_that_was_begun_is_an_error(server: RunningServer) -> None:
    path, body = ASKED["raw"]
    server.engine.die_after = 3

    def shorter() -> None:
        server.engine.die_after, server.engine.reply = None, "Hello from"

    server.engine.on_death = shorter
    assert "became another one" in (await server.lines(path, body))[-1]["error"]


async def test_what_was_drawn_by_chance_ends_with_an_error_that_says_so(server: RunningServer) -> None:
    path, body = ASKED["raw"]
    server.engine.die_after = 3
    lines = await server.lines(path, {**body, "options": {"temperature": 0.5}})
    assert "signal 9" in lines[-1]["error"]
    assert "drawn by chance, with neither a seed nor temperature 0" in lines[-1]["error"]
    assert len(server.launcher.runners) == 1
    assert await counted(server) == {"by chance": 1}


async def test_an_answer_that_kills_every_runner_is_given_up(server: RunningServer) -> None:
    path, body = ASKED["raw"]
    server.engine.die_after = 3
    lines = await server.lines(path, body)
    assert "".join(line["response"] for line in lines[:-1]) == "Hello from the"
    assert "the answer cannot go on elsewhere: it was tried in vain" in lines[-1]["error"]
    assert len(server.launcher.runners) == 3
    assert await counted(server) == {"given up": 1}
