"""The /v1 routes through HTTP, scheduler and client, down to a fake engine: what SDKs rely on beyond plain answers."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.fakes.server import RunningServer, running_server
from tests.http.conftest import add_models

from corral.server.body import MAX_UNPACKED_BYTES

USER = [{"role": "user", "content": "hi"}]
CHAT = {"model": "go", "messages": USER}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "go", "prompt": "hi"},
    "/v1/embeddings": {"model": "vectors", "input": "hi"},
    "/v1/responses": {"model": "go", "input": "hi"},
    "/v1/messages": {**CHAT, "max_tokens": 20},
    "/v1/messages/count_tokens": CHAT,
}
NATIVE: dict[str, dict[str, Any]] = {
    "/api/chat": {**CHAT, "stream": False},
    "/api/generate": {"model": "go", "prompt": "hi", "stream": False},
    "/api/embed": {"model": "vectors", "input": "hi"},
}
STREAMS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server that pings after a hundredth of a second."""
    async with running_server(tmp_path, ping_interval_s=0.01) as running:
        add_models(running)
        yield running


def events_of(text: str) -> list[tuple[str, Any]]:
    """(event name, decoded data) of a whole stream; comments have the name ":"."""
    found: list[tuple[str, Any]] = []
    for block in text.split("\n\n"):
        if block.startswith(":"):
            found.append((":", block))
        elif block:
            lines = dict(line.split(": ", 1) for line in block.split("\n"))
            data = lines["data"]
            found.append((lines.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


async def first_then_rest(server: RunningServer, path: str, gate: asyncio.Event) -> tuple[bytes, str]:
    """What a stream sends while the gate is closed, up to its first ping, and everything after it was opened."""
    body = {**BODIES[path], "stream": True}
    sign = b"response.in_progress" if path == "/v1/responses" else b"ping"
    async with server.http.post(server.url + path, json=body) as answer:
        assert answer.status == 200
        first = b""
        while sign not in first or not first.endswith(b"\n\n"):  # however the network parts it
            first += await answer.content.readany()
        gate.set()
        return first, (await answer.read()).decode()


@pytest.mark.parametrize("path", STREAMS)
async def test_a_long_load_is_bridged_by_pings(hasty: RunningServer, path: str) -> None:
    hasty.engine.load_gate = gate = asyncio.Event()
    first, rest = await first_then_rest(hasty, path, gate)
    if path == "/v1/messages":
        assert [name for name, _ in events_of(first.decode())][:2] == ["message_start", "ping"]
        assert [name for name, _ in events_of(rest)].count("message_start") == 0
        assert events_of(rest)[-1][0] == "message_stop"
    elif path == "/v1/responses":
        assert [name for name, _ in events_of(first.decode())][:2] == ["response.created", "response.in_progress"]
        assert events_of(rest)[-1][0] == "response.completed"
    else:
        assert first.startswith(b": ping\n\n")
        assert events_of(rest)[-1][1] == "[DONE]"


@pytest.mark.parametrize("path", STREAMS)
async def test_a_load_that_fails_after_a_ping_is_an_error_event(hasty: RunningServer, path: str) -> None:
    hasty.engine.load_gate = gate = asyncio.Event()
    hasty.engine.load_error = "no such tensor"
    _, rest = await first_then_rest(hasty, path, gate)
    name, data = events_of(rest)[-1]
    if path == "/v1/messages":
        assert (name, data["error"]["type"]) == ("error", "api_error")
    elif path == "/v1/responses":
        assert (name, data["response"]["status"]) == ("response.failed", "failed")
    else:
        assert data["error"]["type"] == "api_error"


@pytest.mark.parametrize("path", STREAMS)
async def test_an_error_before_the_first_event_keeps_its_status_in_a_stream(server: RunningServer, path: str) -> None:
    status, reply = await server.call("POST", path, {**BODIES[path], "model": "nope", "stream": True})
    assert status == 404
    assert reply["error"]["type"] == "not_found_error"
    assert "'nope' not found" in reply["error"]["message"]


@pytest.mark.parametrize("path", STREAMS)
async def test_a_runner_that_dies_in_mid_stream_is_an_error_event_and_the_end(server: RunningServer, path: str) -> None:
    server.engine.die_after = 2
    async with server.http.post(server.url + path, json={**BODIES[path], "stream": True}) as answer:
        assert answer.status == 200
        found = events_of(await answer.text())
    name, data = found[-1]
    if path == "/v1/messages":
        assert name == data["type"] == "error"
        assert data["error"]["type"] == "api_error"
    elif path == "/v1/responses":
        assert name == data["type"] == "response.failed"
        assert data["response"]["error"]["code"] == "api_error"
    else:
        assert set(data) == {"error"}
        assert set(data["error"]) == {"message", "type", "param", "code"}
    assert "[DONE]" not in [data for _, data in found]
    server.engine.die_after = None
    status, _ = await server.call("POST", path, BODIES[path])
    assert status == 200


@pytest.mark.parametrize("path", BODIES)
async def test_bodies_may_be_compressed_with_zstd(server: RunningServer, path: str) -> None:
    packed = zstandard.ZstdCompressor().compress(json.dumps(BODIES[path]).encode())
    headers = {"Content-Encoding": "zstd", "Content-Type": "application/json"}
    status, reply = await server.call("POST", path, packed, headers=headers)
    assert status == 200, reply


@pytest.mark.parametrize(
    ("packed", "encoding", "why"),
    [
        (b"{}", "zstd", "not valid zstd"),
        (zstandard.ZstdCompressor().compress(b" " * (MAX_UNPACKED_BYTES + 1)), "zstd", "unpacks to more than"),
        (
            zstandard.ZstdCompressor(
                compression_params=zstandard.ZstdCompressionParameters(window_log=24, write_content_size=False)
            )
            .compressobj()
            .compress(b"x" * 100)
            + b"",
            "zstd",
            "EOF",
        ),
        (b"{}", "gzip", 'Content-Encoding "gzip" is not supported'),
    ],
    ids=["no zstd", "a bomb", "cut short", "another encoding"],
)
async def test_compressed_bodies_that_cannot_be_read(
    server: RunningServer, packed: bytes, encoding: str, why: str
) -> None:
    headers = {"Content-Encoding": encoding}
    status, reply = await server.call("POST", "/v1/chat/completions", packed, headers=headers)
    assert status == 400
    assert why in reply["error"]["message"]


async def test_a_window_that_is_too_large_is_refused(server: RunningServer) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(json.dumps(CHAT).encode()) + packer.flush()
    status, reply = await server.call("POST", "/v1/chat/completions", packed, headers={"Content-Encoding": "zstd"})
    assert status == 400
    assert "too large a window" in reply["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "keys"),
    [
        (
            "/v1/chat/completions",
            CHAT,
            ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"],
        ),
        (
            "/v1/completions",
            BODIES["/v1/completions"],
            ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"],
        ),
        ("/v1/embeddings", BODIES["/v1/embeddings"], ["object", "data", "model", "usage"]),
        (
            "/v1/messages",
            BODIES["/v1/messages"],
            ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"],
        ),
        ("/v1/messages", {}, ["type", "error", "request_id"]),
        ("/v1/models", None, ["object", "data"]),
        ("/v1/models/go", None, ["id", "object", "created", "owned_by"]),
    ],
)
async def test_replies_have_their_keys_in_ollamas_order(
    server: RunningServer, path: str, body: Any, keys: list[str]
) -> None:
    _, reply = await server.call("POST" if body is not None else "GET", path, body)
    assert list(reply) == keys
    if "data" in reply:
        inner = (
            ["object", "embedding", "index"] if path == "/v1/embeddings" else ["id", "object", "created", "owned_by"]
        )
        assert {tuple(item) for item in reply["data"]} == {tuple(inner)}


async def test_chunks_have_their_keys_in_ollamas_order(server: RunningServer) -> None:
    keys = ["id", "object", "created", "model", "system_fingerprint", "choices"]
    for path, body in {"/v1/chat/completions": CHAT, "/v1/completions": BODIES["/v1/completions"]}.items():
        async with server.http.post(server.url + path, json={**body, "stream": True}) as answer:
            found = [data for _, data in events_of(await answer.text())]
        assert found.pop() == "[DONE]"
        assert {tuple(data) for data in found} == {tuple(keys)}, path


async def test_usage_of_a_list_of_prompts_is_the_sum_of_its_prompts(server: RunningServer) -> None:
    async def usage(prompt: Any, **more: Any) -> tuple[int, int]:
        body = {"model": "go", "prompt": prompt, "max_tokens": 2, **more}
        _, reply = await server.call("POST", "/v1/completions", body)
        return reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]

    one, other = await usage("a"), await usage("b c d e f")
    assert await usage(["a", "b c d e f"]) == (one[0] + other[0], 4)
    assert await usage(["a", "b c d e f"], n=2) == (one[0] + other[0], 8)
    body = {"model": "go", "prompt": ["a", "b c d e f"], "n": 2, "max_tokens": 2, "stream": True}
    body["stream_options"] = {"include_usage": True}
    async with server.http.post(server.url + "/v1/completions", json=body) as answer:
        last = events_of(await answer.text())[-2][1]
    assert last["choices"] == []
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (one[0] + other[0], 8)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_a_stop_that_is_no_text_is_ignored_and_reported(server: RunningServer, path: str) -> None:
    status, reply = await server.call("POST", path, {**BODIES[path], "stop": 5})
    assert status == 200
    assert reply["warnings"] == [
        {"code": "stop_ignored", "message": "1 of the stop sequences are no text and were ignored", "count": 1}
    ]


@pytest.mark.parametrize(("wrong", "kind"), [(5, "float64"), (None, "<nil>"), ({}, "map[string]interface {}")])
async def test_a_list_of_stops_with_another_type_is_refused_on_completions_only(
    server: RunningServer, wrong: Any, kind: str
) -> None:
    stop = ["x", wrong]
    status, reply = await server.call("POST", "/v1/completions", {**BODIES["/v1/completions"], "stop": stop})
    assert (status, reply["error"]["message"]) == (400, f"invalid type for 'stop' field: {kind}")
    status, reply = await server.call("POST", "/v1/chat/completions", {**CHAT, "stop": stop})
    assert (status, reply["warnings"][0]["code"]) == (200, "stop_ignored")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", {"response_format": {"type": 5}}, "response_format.type"),
        ("/v1/responses", {"text": {"format": {"type": 5}}}, "text.format.type"),
    ],
)
async def test_a_format_whose_type_is_no_text_is_refused(
    server: RunningServer, path: str, body: dict[str, Any], field: str
) -> None:
    status, reply = await server.call("POST", path, {**BODIES[path], **body})
    assert (status, reply["error"]["message"]) == (
        400,
        f'json: field "{field}" must be of type string, not number',
    )


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_messages_without_any_content_are_refused(server: RunningServer, path: str, stream: bool) -> None:
    body = {**BODIES[path], "messages": [{"role": "user", "content": []}], "stream": stream}
    status, reply = await server.call("POST", path, body)
    assert (status, reply["error"]["message"]) == (400, "messages have no content")


async def test_an_empty_previous_response_is_none(server: RunningServer) -> None:
    body = {**BODIES["/v1/responses"], "previous_response_id": ""}
    status, reply = await server.call("POST", "/v1/responses", body)
    assert (status, reply["previous_response_id"]) == (200, None)


async def test_browser_clients_may_send_the_sdks_headers(server: RunningServer) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    async with server.http.options(server.url + "/v1/messages", headers=headers) as answer:
        allowed = {name.lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert {"x-api-key", "anthropic-version", "anthropic-beta", "openai-beta", "authorization"} <= allowed


@pytest.mark.parametrize("path", [*BODIES, *NATIVE])
async def test_strict_refuses_what_is_not_known(server: RunningServer, path: str) -> None:
    body = {**BODIES, **NATIVE}[path]
    status, reply = await server.call("POST", path, {**body, "wibble": 1})
    assert status == 200, reply
    status, reply = await server.call("POST", path, {**body, "wibble": 1, "strict": True})
    assert status == 400
    error = reply["error"]
    assert (error if path in NATIVE else error["message"]) == 'parameter "wibble" is not known and was ignored'


async def test_the_strict_setting_holds_for_all_apis(tmp_path: Path) -> None:
    async with running_server(tmp_path, strict=True) as server:
        add_models(server)
        for path, body in {**BODIES, **NATIVE}.items():
            status, _ = await server.call("POST", path, {**body, "wibble": 1})
            assert status == 400, path


async def test_a_response_stream_goes_on_from_the_one_before(server: RunningServer) -> None:
    _, first = await server.call("POST", "/v1/responses", {"model": "go", "input": "one"})
    body = {"model": "go", "input": "two", "previous_response_id": first["id"], "stream": True}
    async with server.http.post(server.url + "/v1/responses", json=body) as answer:
        found = events_of(await answer.text())
    assert found[-1][0] == "response.completed"
    second = found[-1][1]["response"]
    assert second["previous_response_id"] == first["id"]
    prompt = server.engine.bodies[-1][1]["prompt"]
    text = prompt if isinstance(prompt, str) else server.engine.detokenize(prompt)
    assert text.index("one") < text.index("Hello from the fake runner.") < text.index("two")
    _, kept = await server.call("GET", f"/v1/responses/{second['id']}")
    assert kept["output"] == second["output"]
    usage = second["usage"]
    assert set(usage["input_tokens_details"]) == {"cached_tokens", "cache_write_tokens"}


async def test_a_data_url_over_the_body_bound_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    picture = "data:image/png;base64," + base64.b64encode(bytes(5000)).decode()
    part = {"type": "image_url", "image_url": {"url": picture}}
    async with running_server(tmp_path, max_body_bytes=4096) as server:
        add_models(server)
        body = {"model": "go", "messages": [{"role": "user", "content": [part]}]}
        status, reply = await server.call("POST", "/v1/chat/completions", body)
    assert status == 413
    assert reply["error"]["type"] == "api_error"


async def test_a_large_picture_is_decoded_off_the_loop(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []

    decode_base64 = base64.b64decode

    def watched(text: str, **options: Any) -> bytes:
        threads.append(threading.current_thread() is threading.main_thread())
        return decode_base64(text, **options)

    monkeypatch.setattr(base64, "b64decode", watched)
    data = base64.b64encode(bytes(300_000)).decode()
    url = f"data:image/png;base64,{data}"
    source = {"type": "base64", "media_type": "image/png", "data": data}
    chat = {"model": "go", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]}
    response = {"model": "go", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}
    content = [{"type": "image", "source": source}]
    message = {"model": "go", "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    for path, body in {"/v1/chat/completions": chat, "/v1/responses": response, "/v1/messages": message}.items():
        status, _ = await server.call("POST", path, body)
        assert status == 400, path  # the model cannot see
    assert threads == [False] * 3


async def test_token_ids_are_read_as_the_models_and_foreign_ones_reported(server: RunningServer) -> None:
    metadata = {"llama.pooling_type": 1, "tokenizer.ggml.tokens": ["x"] * 100}
    server.add("worded", metadata=metadata)
    ids = server.engine.tokenize("hello world")
    _, by_text = await server.call("POST", "/v1/embeddings", {"model": "worded", "input": "hello world"})
    _, by_ids = await server.call("POST", "/v1/embeddings", {"model": "worded", "input": [ids]})
    assert by_ids == by_text
    _, mixed = await server.call("POST", "/v1/embeddings", {"model": "worded", "input": [[*ids, 100_257]]})
    assert mixed["data"] == by_text["data"]
    assert [(warning["code"], warning["tokens"]) for warning in mixed["warnings"]] == [("tokens_unknown", 1)]
    status, reply = await server.call("POST", "/v1/embeddings", {"model": "worded", "input": [[100_257]]})
    assert (status, reply["error"]["type"]) == (400, "invalid_request_error")
    assert "whose vocabulary has 100" in reply["error"]["message"]


async def test_only_a_stop_sequence_of_the_request_is_reported(server: RunningServer) -> None:
    server.engine.stop_type, server.engine.stopping_word = "word", "<|end|>"
    _, reply = await server.call("POST", "/v1/messages", BODIES["/v1/messages"])
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("end_turn", None)
    asked = {**BODIES["/v1/messages"], "stop_sequences": ["<|end|>"]}
    _, reply = await server.call("POST", "/v1/messages", asked)
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", "<|end|>")
    async with server.http.post(server.url + "/v1/messages", json={**BODIES["/v1/messages"], "stream": True}) as answer:
        ends = [data["delta"] for name, data in events_of(await answer.text()) if name == "message_delta"]
    assert ends == [{"stop_reason": "end_turn", "stop_sequence": None}]


THINKER = (
    "{{- range .Messages }}{{ .Role }}:{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}\n"
    "{{ end }}{{ if .Think }}A:{{ end }}"
)
REASONING = {
    "/v1/chat/completions": ("completion_tokens", "completion_tokens_details"),
    "/v1/responses": ("output_tokens", "output_tokens_details"),
}


@pytest.mark.parametrize("path", REASONING)
async def test_an_answer_cut_while_thinking_has_no_more_thinking_than_tokens(server: RunningServer, path: str) -> None:
    server.add("thinker", texts={"template": THINKER})
    server.engine.reply = "<think> one two three four five"
    limit = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    status, reply = await server.call("POST", path, {**BODIES[path], "model": "thinker", limit: 3})
    assert status == 200
    total, details = REASONING[path]
    assert (reply["usage"][total], reply["usage"][details]) == (3, {"reasoning_tokens": 3})


async def test_an_empty_body_is_eof_on_every_route(server: RunningServer) -> None:
    for path in [*BODIES, "/v1/rerank", "/v1/systemone"]:
        status, reply = await server.call("POST", path, b"")
        assert (status, reply["error"]["message"]) == (400, "EOF"), path


async def test_a_model_that_makes_no_decisions_is_not_found(server: RunningServer) -> None:
    server.engine.error = (404, "File Not Found", "not_found_error")
    status, reply = await server.call("POST", "/v1/systemone", {"model": "go"})
    why = '"go" is no decision model'
    assert (status, reply) == (
        404,
        {"error": {"message": why, "type": "not_found_error", "param": None, "code": None}},
    )


@pytest.mark.parametrize(
    ("path", "habits"),
    [
        (
            "/v1/messages",
            {
                "thinking": {"type": "adaptive", "display": "omitted"},
                "output_config": {"effort": "high"},
                "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
                "metadata": {"user_id": "u"},
            },
        ),
        ("/v1/responses", {"client_metadata": {"turn_id": "1"}, "include": ["reasoning.encrypted_content"]}),
    ],
)
async def test_what_agents_send_by_habit_is_no_loss(server: RunningServer, path: str, habits: dict[str, Any]) -> None:
    body = BODIES[path] | habits
    status, reply = await server.call("POST", path, body)
    assert (status, "warnings" in reply) == (200, False)
    status, reply = await server.call("POST", path, body | {"strict": True})
    assert status == 200, reply


async def test_thinking_asked_for_in_so_many_words_is_told(server: RunningServer) -> None:
    body = BODIES["/v1/messages"] | {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    _, reply = await server.call("POST", "/v1/messages", body)
    assert [warning["code"] for warning in reply["warnings"]] == ["think_ignored"]
