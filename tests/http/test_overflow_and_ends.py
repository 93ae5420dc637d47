"""Prompts that do not fit, and why an answer ended: in the words of each API, for agents and for others."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from tests.fakes.server import RunningServer

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
TOOLS_GO = (
    "{{ range .Tools }}{{ .Function.Name }}{{ end }}{{ range .Messages }}{{ .Role }}: {{ .Content }}\n"
    '{{ range .ToolCalls }}<call>{"name": "{{ .Function.Name }}"}{{ end }}{{ end }}assistant:'
)
LONG = [{"role": "user", "content": "word " * 60}, {"role": "assistant", "content": "ok"}]
TALK = [{"role": "system", "content": "be good"}, *LONG, {"role": "user", "content": "hi"}]
SMALL = {"num_ctx": 48}


def agents_request(path: str, model: str) -> dict[str, Any]:
    if path == "/v1/responses":
        return {"model": model, "input": TALK, "options": SMALL}
    if path == "/v1/messages":
        return {"model": model, "messages": TALK[1:], "system": "be good", "max_tokens": 9, "options": SMALL}
    return {"model": model, "messages": TALK, "tools": [TOOL], "options": SMALL}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["tools", "jinja"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/chat/completions"])
async def test_an_agent_is_told_in_the_words_that_it_waits_for(
    server: RunningServer, path: str, model: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server.add("tools", texts={"template": TOOLS_GO})
    if model == "jinja":
        server.add("jinja", jinja="{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}")
    with caplog.at_level(logging.WARNING):
        status, reply = await server.call("POST", path, {**agents_request(path, model), "stream": stream})
    assert status == 400, reply
    error = reply["error"]
    assert error["type"] == "invalid_request_error"
    numbers = r"prompt is too long: (\d+) tokens > (\d+) maximum"
    if path == "/v1/messages":
        found = re.match(f"^{numbers}$", error["message"])
        assert "CORRAL_CONTEXT_LENGTH" in error["remedy"]
    else:
        found = re.search(numbers, error["message"])
        assert error["code"] == "context_length_exceeded"
        assert error["message"].startswith("This model's maximum context length is 48 tokens")
        assert "CORRAL_CONTEXT_LENGTH" in error["message"]
    assert found is not None
    assert int(found[1]) > int(found[2])
    (line,) = [record.getMessage() for record in caplog.records if "context window" in record.getMessage()]
    assert "trained on 4096" in line


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"tools": []}),
        ("/v1/chat/completions", {"options": {**SMALL, "on_overflow": "truncate"}}),
        ("/v1/responses", {"truncation": "auto"}),
    ],
)
async def test_others_and_those_who_ask_for_it_lose_the_oldest_turns(
    server: RunningServer, path: str, more: dict[str, Any]
) -> None:
    server.add("tools", texts={"template": TOOLS_GO})
    status, reply = await server.call("POST", path, {**agents_request(path, "tools"), **more})
    assert status == 200, reply
    assert [warning["code"] for warning in reply["warnings"]] == ["history_truncated"]


async def test_a_full_window_ends_an_agents_answer_in_words_of_its_own(server: RunningServer) -> None:
    server.engine.reply = " ".join(f"word{number}" for number in range(400))
    turn = [{"role": "user", "content": "hi"}]
    _, message = await server.post(
        "/v1/messages", {"model": "go", "messages": turn, "max_tokens": 300, "options": SMALL}
    )
    assert message["stop_reason"] == "model_context_window_exceeded"
    assert [warning["code"] for warning in message["warnings"]] == ["context_full"]
    _, response = await server.post("/v1/responses", {"model": "go", "input": turn, "options": SMALL})
    assert (response["status"], response["error"]["code"]) == ("failed", "context_length_exceeded")
    assert response["usage"]["input_tokens"] + response["usage"]["output_tokens"] >= 48


@pytest.mark.parametrize("model", ["go", "jinja"])
async def test_a_stop_sequence_is_reported_whatever_made_the_prompt(server: RunningServer, model: str) -> None:
    server.engine.stop_type, server.engine.stopping_word = "word", "END"
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 50,
        "stop_sequences": ["END"],
    }
    _, reply = await server.post("/v1/messages", body)
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", "END")


@pytest.mark.parametrize("name", ["space/one", "space/one:latest", "space%2Fone%3Alatest"])
async def test_a_models_id_may_have_a_slash(server: RunningServer, name: str) -> None:
    server.add("space/one", texts={"template": TOOLS_GO})
    status, reply = await server.call("GET", f"/v1/models/{name}")
    assert (status, reply["object"]) == (200, "model")
    status, reply = await server.call("GET", "/v1/models/space/two")
    assert (status, reply["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("model", ["go", "jinja"])
async def test_a_prompt_is_shown_without_decoding_its_images(server: RunningServer, model: str) -> None:
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    parts = [
        {"type": "text", "text": "A:"},
        url,
        {"type": "text", "text": "B:"},
        url,
        {"type": "text", "text": "Which?"},
    ]
    body = {"model": model, "messages": [{"role": "user", "content": parts}], "_debug_render_only": True}
    status, reply = await server.call("POST", "/v1/chat/completions", body)
    assert status == 200, reply
    assert "A:[img-0]B:[img-1]Which?" in reply["_debug_info"]["rendered_template"]
    assert reply["_debug_info"]["image_count"] == 2


@pytest.mark.parametrize("options", [{}, {"num_ctx": 2048}])
async def test_a_long_conversation_is_rendered_and_counted_once(server: RunningServer, options: dict[str, Any]) -> None:
    """Whether a window is to grow for it and whether it fits are asked of one count."""
    server.add("jinja", jinja="{% for m in messages %}{{ m.content }}{% endfor %}")
    messages = [{"role": "user", "content": "word " * 1_500}]
    status, reply = await server.post("/api/chat", {"model": "jinja", "messages": messages, "options": options})
    assert status == 200, reply
    asked = [path for path, _ in server.engine.bodies]
    assert asked.count("/apply-template") == 1, asked
    assert asked.count("/tokenize") == 1, asked
