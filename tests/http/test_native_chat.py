"""POST /api/chat through HTTP, scheduler and client, down to a fake engine."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import pytest
from PIL import Image
from tests.fakes.server import RunningServer

USER = [{"role": "user", "content": "hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TOOLS_JINJA = "{% if tools %}{{ tools }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
THINKING_JINJA = "<think></think>{% for m in messages %}{{ m.content }}{% endfor %}"
GO_TOOLS = (
    "{{- range .Tools }}{{ .Function.Name }}{{ end }}{{- range .Messages }}{{ .Role }}:{{ .Content }}"
    '{{ if .ToolCalls }}<call>{{ range .ToolCalls }}{"name": "{{ .Function.Name }}"}{{ end }}{{ end }}\n{{ end }}'
)
GO_THINKING = (
    "{{- range .Messages }}{{ .Role }}:{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ .Content }}\n{{ end }}assistant:"
)


@pytest.mark.parametrize("model", ["go", "jinja"])
async def test_a_stream_gives_a_line_a_piece_and_one_last_line(server: RunningServer, model: str) -> None:
    lines = await server.lines("/api/chat", {"model": model, "messages": USER})
    assert [line["message"]["content"] for line in lines] == ["Hello", " from", " the", " fake", " runner.", ""]
    assert all(set(line) == {"model", "created_at", "message", "done"} for line in lines[:-1])
    assert all(line["message"]["role"] == "assistant" for line in lines)
    assert list(lines[-1])[:5] == ["model", "created_at", "message", "done", "done_reason"]
    assert lines[-1]["eval_count"] == 5


@pytest.mark.parametrize("model", ["go", "jinja"])
async def test_without_streaming_the_reply_has_the_whole_text(server: RunningServer, model: str) -> None:
    status, reply = await server.post("/api/chat", {"model": model, "messages": USER})
    assert status == 200
    assert reply["message"] == {"role": "assistant", "content": "Hello from the fake runner."}
    assert (reply["done"], reply["done_reason"]) == (True, "stop")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "model is required"),
        ({"model": "nope", "messages": USER}, 404, "model 'nope' not found"),
        ({"model": "vectors", "messages": USER}, 400, '"vectors" does not support chat'),
        ({"model": "vectors"}, 400, '"vectors" does not support chat'),
        (
            {"model": "go", "messages": USER, "tools": [WEATHER]},
            400,
            "registry.ollama.ai/library/go:latest does not support tools",
        ),
        ({"model": "go", "messages": USER, "think": "high"}, 400, '"go" does not support thinking'),
        (
            {"model": "go", "messages": USER, "think": "loud"},
            400,
            'invalid think value: "loud" (must be "high", "medium", "low", "max", true, or false)',
        ),
        (
            {"model": "go", "messages": USER, "think": 3},
            400,
            'think must be a boolean or string ("high", "medium", "low", "max", true, or false)',
        ),
    ],
)
async def test_what_cannot_be_done_is_said_with_its_status(
    server: RunningServer, body: dict[str, Any], status: int, error: str
) -> None:
    assert await server.post("/api/chat", body) == (status, {"error": error})


async def test_no_messages_load_and_keep_alive_0_unloads(server: RunningServer) -> None:
    _, reply = await server.call("POST", "/api/chat", {"model": "go", "messages": []})
    assert (reply["done_reason"], reply["message"]) == ("load", {"role": "assistant", "content": ""})
    _, reply = await server.call("POST", "/api/chat", {"model": "go", "keep_alive": 0})
    assert reply["done_reason"] == "unload"


async def test_the_models_system_and_messages_come_first(server: RunningServer) -> None:
    from corral.core import Message

    server.add("own", jinja="{{ messages }}", texts={"system": "S"}, messages=(Message("user", "before"),))
    await server.post("/api/chat", {"model": "own", "messages": USER})
    assert [m["content"] for m in _body(server, "/v1/chat/completions")["messages"]] == ["S", "before", "hi"]
    await server.post("/api/chat", {"model": "own", "messages": [{"role": "SYSTEM", "content": "mine"}, *USER]})
    assert [m["content"] for m in _body(server, "/v1/chat/completions")["messages"]] == ["before", "mine", "hi"]


async def test_tool_calls_of_a_templated_chat_come_whole_with_parsed_arguments(server: RunningServer) -> None:
    server.add("tools", jinja=TOOLS_JINJA)
    first = {"index": 0, "id": "x1", "function": {"name": "get_weather", "arguments": '{"ci'}}
    rest = {"index": 0, "function": {"arguments": 'ty": "Paris"}'}}
    server.engine.chat_deltas = [{"tool_calls": [first]}, {"tool_calls": [rest]}]
    lines = await server.lines("/api/chat", {"model": "tools", "messages": USER, "tools": [WEATHER]})
    calls = [line["message"]["tool_calls"] for line in lines if "tool_calls" in line["message"]]
    assert calls == [[{"id": "x1", "function": {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}}]]
    assert lines[-1]["done_reason"] == "stop"
    assert _body(server, "/v1/chat/completions")["tools"][0]["function"]["name"] == "get_weather"


async def test_a_call_with_broken_arguments_is_content_with_a_warning(server: RunningServer) -> None:
    server.add("tools", jinja=TOOLS_JINJA)
    call = {"index": 0, "id": "x1", "function": {"name": "get_weather", "arguments": "{oops"}}
    server.engine.chat_deltas = [{"tool_calls": [call]}]
    status, reply = await server.post("/api/chat", {"model": "tools", "messages": USER, "tools": [WEATHER]})
    assert status == 200
    assert reply["message"]["content"] == '{"name": "get_weather", "arguments": {oops'
    assert "tool_calls" not in reply["message"]
    assert [warning["code"] for warning in reply["warnings"]] == ["tool_call_unparsed"]


async def test_tool_calls_in_text_are_found_in_a_rendered_chat(server: RunningServer) -> None:
    server.add("gotools", texts={"template": GO_TOOLS})
    server.engine.reply = 'Let me see. <call>{"name": "get_weather", "arguments": {"city": "Paris"}}'
    _, reply = await server.post("/api/chat", {"model": "gotools", "messages": USER, "tools": [WEATHER]})
    call = reply["message"]["tool_calls"][0]
    assert call["function"] == {"index": 0, "name": "get_weather", "arguments": {"city": "Paris"}}
    assert call["id"].startswith("call_")
    assert reply["message"]["content"].strip() == "Let me see."


async def test_thinking_of_a_templated_chat_is_apart_from_content(server: RunningServer) -> None:
    server.add("thinker", jinja=THINKING_JINJA)
    server.engine.chat_deltas = [{"reasoning_content": "hmm"}, {"content": "yes"}]
    lines = await server.lines("/api/chat", {"model": "thinker", "messages": USER})
    assert [(line["message"].get("thinking"), line["message"]["content"]) for line in lines] == [
        ("hmm", ""),
        (None, "yes"),
        (None, ""),
    ]
    assert _body(server, "/v1/chat/completions")["chat_template_kwargs"] == {"enable_thinking": True}


HISTORY: dict[str, dict[str, Any]] = {
    "/api/chat": {
        "messages": [
            *USER,
            {
                "role": "assistant",
                "content": "",
                "thinking": "Paris, then.",
                "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}],
            },
            {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
        ]
    },
    "/v1/chat/completions": {
        "messages": [
            *USER,
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Paris, then.",
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                    }
                ],
            },
            {"role": "tool", "content": "sunny", "tool_call_id": "c"},
        ]
    },
    "/v1/messages": {
        "max_tokens": 5,
        "messages": [
            *USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Paris,", "signature": ""},
                    {"type": "thinking", "thinking": "then.", "signature": ""},
                    {"type": "tool_use", "id": "c", "name": "get_weather", "input": {"city": "Paris"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "sunny"}]},
        ],
    },
    "/v1/responses": {
        "input": [
            *USER,
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Paris, then."}]},
            {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": '{"city": "Paris"}'},
            {"type": "function_call_output", "call_id": "c", "output": "sunny"},
        ]
    },
}


@pytest.mark.parametrize("route", HISTORY)
async def test_thinking_of_earlier_turns_goes_back_to_the_template(server: RunningServer, route: str) -> None:
    server.add("thinker", jinja=THINKING_JINJA)
    status, _ = await server.post(route, {"model": "thinker", "stream": False, **HISTORY[route]})
    assert status == 200
    _, assistant, tool = _body(server, "/v1/chat/completions")["messages"]
    assert assistant["reasoning_content"].split() == ["Paris,", "then."]
    assert assistant["tool_calls"][0]["function"]["name"] == "get_weather"
    assert "reasoning_content" not in tool


async def test_think_false_and_levels_reach_the_template(server: RunningServer) -> None:
    server.add("thinker", jinja=THINKING_JINJA)
    await server.post("/api/chat", {"model": "thinker", "messages": USER, "think": False})
    assert _body(server, "/v1/chat/completions")["chat_template_kwargs"] == {"enable_thinking": False}
    await server.post("/api/chat", {"model": "thinker", "messages": USER, "think": "high"})
    kwargs = _body(server, "/v1/chat/completions")["chat_template_kwargs"]
    assert kwargs == {"enable_thinking": True, "reasoning_effort": "high"}


async def test_thinking_tags_are_split_in_a_rendered_chat(server: RunningServer) -> None:
    server.add("gothinker", texts={"template": GO_THINKING})
    server.engine.reply = "<think> deep </think> answer"
    _, reply = await server.post("/api/chat", {"model": "gothinker", "messages": USER})
    assert (reply["message"]["thinking"].strip(), reply["message"]["content"]) == ("deep", "answer")


async def test_old_messages_are_dropped_and_it_is_said(server: RunningServer) -> None:
    history = [{"role": "user", "content": "word " * 40}, {"role": "assistant", "content": "ok"}, *USER]
    for model in ("go", "jinja"):
        body = {"model": model, "messages": history, "options": {"num_ctx": 30}}
        _, reply = await server.post("/api/chat", body)
        warning = reply["warnings"][0]
        assert (warning["code"], warning["dropped"]) == ("history_truncated", 2)


async def test_a_question_larger_than_the_window_is_refused_with_both_numbers(server: RunningServer) -> None:
    history = [*USER, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "word " * 40}]
    for model in ("go", "jinja"):
        body = {"model": model, "messages": history, "options": {"num_ctx": 30}}
        status, reply = await server.post("/api/chat", body)
        assert status == 400
        assert re.match(r"the prompt has \d+ tokens, the context window holds 30, ", reply["error"])


async def test_overflow_is_an_error_with_both_numbers_when_asked(server: RunningServer) -> None:
    history = [{"role": "user", "content": "word " * 40}, *USER]
    body = {"model": "jinja", "messages": history, "options": {"num_ctx": 30, "on_overflow": "error"}}
    status, reply = await server.post("/api/chat", body)
    assert status == 400
    assert "30" in reply["error"]


async def test_render_only_shows_the_prompt(server: RunningServer) -> None:
    _, reply = await server.call("POST", "/api/chat", {"model": "go", "messages": USER, "_debug_render_only": True})
    assert reply["message"] == {"role": "", "content": ""}
    assert reply["_debug_info"]["rendered_template"].endswith("hi<|im_end|>\n<|im_start|>assistant\n")
    assert reply["done"] is False


async def test_images_go_to_the_engine_in_their_place(server: RunningServer, tmp_path: Any) -> None:
    from tests.fakes.ggufs import make_gguf

    from corral.store import manifests as media

    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    for name, layers in (("see", {"jinja": "{{ messages }}"}), ("gosee", {"texts": {"template": "{{ .Prompt }}"}})):
        server.add(name, extra={media.PROJECTOR: projector}, **layers)
    picture = _picture("PNG")
    message = {"role": "user", "content": "what is [img]?", "images": [picture]}
    await server.post("/api/chat", {"model": "see", "messages": [message]})
    parts = _body(server, "/v1/chat/completions")["messages"][0]["content"]
    assert parts[1] == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    await server.post("/api/chat", {"model": "gosee", "messages": [message]})
    prompt = _body(server, "/completion")["prompt"]
    assert prompt == {"prompt_string": "what is <__media__>?", "multimodal_data": [picture]}


async def test_images_for_a_model_without_eyes_are_refused_before_loading(server: RunningServer) -> None:
    message = {"role": "user", "content": "what?", "images": [_picture("PNG")]}
    status, reply = await server.post("/api/chat", {"model": "go", "messages": [message]})
    assert (status, reply["error"]) == (
        400,
        "Multimodal data provided, but model does not support multimodal requests.",
    )
    assert server.launcher.runners == []


async def test_prefill_and_tool_results_reach_the_engine(server: RunningServer) -> None:
    server.add("tools", jinja=TOOLS_JINJA)
    calls = [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]
    messages = [
        *USER,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "sunny", "tool_name": "get_weather", "tool_call_id": "c1"},
    ]
    await server.post("/api/chat", {"model": "tools", "messages": messages, "tools": [WEATHER]})
    sent = _body(server, "/v1/chat/completions")["messages"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    assert sent[2] == {"role": "tool", "content": "sunny", "tool_call_id": "c1", "name": "get_weather"}


async def test_arguments_as_text_are_a_bad_request(server: RunningServer) -> None:
    calls = [{"function": {"name": "f", "arguments": '{"a": 1}'}}]
    status, reply = await server.post(
        "/api/chat", {"model": "go", "messages": [{"role": "assistant", "tool_calls": calls}]}
    )
    assert status == 400
    assert "arguments" in reply["error"]


def _picture(kind: str) -> str:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def _body(server: RunningServer, path: str) -> dict[str, Any]:
    return [body for sent, body in server.engine.bodies if sent == path][-1]
