"""Bodies of the /v1 routes with one value of another type: an answer or a 400 that says so, never an internal error."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from tests.fakes.server import RunningServer

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"x": {"type": "string", "enum": ["a"]}}, "required": ["x"]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
IMAGE = {"type": "base64", "media_type": "image/png", "data": PIXEL}
CALL = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "go",
        "generic_tools": True,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "name": "n", "content": [{"type": "text", "text": "t"}]},
            {"role": "assistant", "content": None, "reasoning": "r", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "ok"},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_tokens": 2,
        "stop": ["x"],
        "stream_options": {"include_usage": True},
        "logit_bias": {"1": 1},
        "reasoning": {"effort": "none"},
        "user": "u",
    },
    "/v1/chat/completions?image": {
        "model": "go",
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        "reasoning_effort": "none",
    },
    "/v1/completions": {"model": "go", "prompt": ["a", "b"], "max_tokens": 2, "stop": ["x"], "n": 1, "echo": True},
    "/v1/embeddings": {"model": "vectors", "input": ["a", "b"], "dimensions": 2, "encoding_format": "float"},
    "/v1/responses": {
        "model": "go",
        "generic_tools": True,
        "store": False,
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "t"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
            {"type": "reasoning", "encrypted_content": "r", "content": [{"type": "reasoning_text", "text": "x"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "ok"},
        ],
        "tools": [
            {"type": "function", **FUNCTION},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", **FUNCTION}]},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        "reasoning": {"effort": "none", "summary": "auto"},
        "metadata": {"a": "b"},
    },
    "/v1/messages": {
        "model": "go",
        "generic_tools": True,
        "max_tokens": 2,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "t"}, {"type": "document", "source": {"type": "text"}}],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "r"},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"x": "a"}},
                    {"type": "server_tool_use", "id": "w", "name": "web_search", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "ok"}]},
                    {"type": "web_search_tool_result", "tool_use_id": "w", "content": [{"title": "t", "url": "u"}]},
                ],
            },
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "f"},
        "stop_sequences": ["x"],
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        "metadata": {"user_id": "u"},
    },
    "/v1/messages?image": {
        "model": "go",
        "max_tokens": 2,
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": IMAGE}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image", "source": IMAGE}]}]},
        ],
    },
    "/v1/rerank": {"model": "vectors", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1},
}
BODIES["/v1/messages"]["messages"][0]["content"][1]["source"]["data"] = "d"
OTHERS: list[Any] = [None, True, 7, "x", [], [None], {}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside `value`."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in steps:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(body: dict[str, Any], path: tuple[Any, ...], other: Any) -> dict[str, Any]:
    """The body with another value at `path`."""
    made = copy.deepcopy(body)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = other
    return made


@pytest.mark.parametrize("case", BODIES)
async def test_no_type_in_any_place_is_an_internal_error(server: RunningServer, case: str) -> None:
    path, _, _ = case.partition("?")
    asked = [(where, other, changed(BODIES[case], where, other)) for where in places(BODIES[case]) for other in OTHERS]
    limit = asyncio.Semaphore(8)

    async def ask(body: dict[str, Any]) -> tuple[int, Any]:
        async with limit:
            return await server.call("POST", path, body)

    answers = await asyncio.gather(*(ask(body) for _, _, body in asked))
    wrong = [
        (where, other, answer)
        for (where, other, _), answer in zip(asked, answers, strict=True)
        if answer[0] not in {200, 400, 404} or (answer[0] == 400 and not answer[1]["error"]["message"])
    ]
    assert wrong == []
