"""Parameter fan-out and hostile numbers: what a request may multiply is bounded; no odd number reaches an engine."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
from tests.fakes.server import RunningServer

HUGE = [10**9, 2**31, 2**63, -(2**63), 10**30, -1, 1e308]
FLOATS = ["temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty"]
INTS = ["num_predict", "num_keep", "num_ctx", "num_batch", "top_k", "repeat_last_n", "seed", "num_thread", "num_gpu"]
INTS += ["main_gpu", "draft_num_predict"]


@pytest.mark.parametrize("option", [*FLOATS, *INTS])
async def test_an_options_number_is_refused_or_brought_into_range(server: RunningServer, option: str) -> None:
    for value in HUGE:
        body = {"model": "go", "prompt": "x", "options": {"num_predict": 1, option: value}}
        status, reply = await server.post("/api/generate", body)
        assert status in {200, 400, 500, 507}, (option, value, reply)
        assert "internal" not in str(reply)
        if status == 500:  # more memory than there is, told with both numbers
            assert "bytes of memory" in reply["error"], (option, value, reply)
    for text in ("NaN", "Infinity", "-Infinity", "1e999", '"1"', "[1]", "{}", "true"):
        raw = f'{{"model":"go","prompt":"x","stream":false,"options":{{"{option}":{text}}}}}'
        assert (await server.call("POST", "/api/generate", raw))[0] == 400, (option, text)
    for path, sent in server.engine.bodies:
        if path == "/completion":
            assert all(math.isfinite(value) and abs(value) < 2**33 for value in numbers(sent)), sent


def numbers(value: Any) -> list[float]:
    """Every number in what an engine was sent."""
    if isinstance(value, dict):
        return [number for child in value.values() for number in numbers(child)]
    if isinstance(value, list):
        return [number for child in value for number in numbers(child)]
    return [value] if isinstance(value, int | float) else []


FANS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": "x", "n": 10**6}),
    ("/v1/completions", {"prompt": "x", "n": 65}),
    ("/v1/completions", {"prompt": ["x"] * 1000, "n": 64}),
    ("/v1/completions", {"prompt": "x", "best_of": 10**6, "n": 10**6}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": 10**6}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "n": -1}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 10**6}),
    ("/api/generate", {"prompt": "x", "logprobs": True, "top_logprobs": 10**6}),
    ("/api/chat", {"messages": [{"role": "user", "content": "x"}], "top_logprobs": -1, "logprobs": True}),
    ("/api/chat", {"messages": [{"role": "user", "content": "x"}] * 20_000}),
]


@pytest.mark.parametrize(("path", "body"), FANS, ids=[f"{path}-{n}" for n, (path, _) in enumerate(FANS)])
async def test_what_multiplies_work_has_a_bound(server: RunningServer, path: str, body: dict[str, Any]) -> None:
    status, reply = await server.post(path, {"model": "go", "max_tokens": 1, **body})
    assert status == 400, reply
    assert [path for path, _ in server.engine.bodies if path in {"/completion", "/v1/chat/completions"}] == []


def calls(arguments: str, count: int) -> list[dict[str, Any]]:
    """A history whose assistant has called so often."""
    functions = [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": arguments}} for n in range(count)
    ]
    return [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": functions},
        {"role": "user", "content": "y"},
    ]


@pytest.mark.parametrize("text", ["[" + "[]," * 999 + "[]]", "[" + "1," * 19_999 + "1]", '{"a":' * 1001])
async def test_json_in_texts_of_calls_is_bounded_as_the_body_is(server: RunningServer, text: str) -> None:
    count = 70
    items = [{"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": text} for n in range(count)]
    for path, body in (
        ("/v1/chat/completions", {"messages": calls(text, count)}),
        ("/v1/responses", {"input": [*items, {"role": "user", "content": "y"}]}),
    ):
        data = json.dumps({"model": "go", **body}).encode()
        status, reply = await server.call("POST", path, data=io.BytesIO(data))
        assert status == 400, reply
        assert "more than" in str(reply) or "nested over" in str(reply)


EMPTY: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"prompt": ""}),
    ("/api/generate", {"prompt": "", "raw": True}),
    ("/api/chat", {"messages": []}),
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/completions", {"prompt": ""}),
    ("/v1/completions", {"prompt": []}),
    ("/v1/messages", {"messages": [], "max_tokens": 1}),
    ("/v1/responses", {"input": []}),
    ("/v1/responses", {"input": ""}),
    ("/api/rerank", {"query": "", "documents": []}),
    ("/api/tokenize", {"content": ""}),
    ("/api/detokenize", {"tokens": []}),
]


@pytest.mark.parametrize(("path", "body"), EMPTY, ids=[f"{path}-{n}" for n, (path, _) in enumerate(EMPTY)])
async def test_nothing_at_all_is_no_crash(server: RunningServer, path: str, body: dict[str, Any]) -> None:
    status, reply = await server.post(path, {"model": "go", **body})
    assert status < 500, reply


@pytest.mark.parametrize("ids", [[2**40], [-1], [10**30], [10**6] * 3])
async def test_token_ids_outside_of_the_vocabulary_never_reach_an_engine(server: RunningServer, ids: list[int]) -> None:
    server.add("few", texts={"template": "{{ .Prompt }}"}, metadata={"tokenizer.ggml.tokens": ["a", "b"]})
    for path, body in (
        ("/api/generate", {"prompt": "x", "context": ids}),
        ("/api/detokenize", {"tokens": ids}),
    ):
        status, reply = await server.post(path, {"model": "few", **body})
        assert status == 400, reply
    assert not any(str(ids[0]) in json.dumps(body) for _, body in server.engine.bodies)
