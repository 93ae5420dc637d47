"""Models whose config names a renderer and a parser, through the HTTP API: prompts, window, images, answers."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes.ggufs import make_gguf
from tests.fakes.server import RunningServer, running_server

from corral.core import Message
from corral.prompt.renderers.registry import RENDERERS
from corral.store import ModelConfig
from corral.store import manifests as media

USER = [{"role": "user", "content": "hi"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
GLUED = "{{ .Prompt }}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as running:
        yield running


def add(server: RunningServer, renderer: str, parser: str = "", **more: Any) -> str:
    config = ModelConfig("gguf", "llama", ("llama",), "4.3B", "F32", renderer=renderer, parser=parser)
    name = f"m-{renderer or parser}".replace(".", "")
    server.add(name, config=config, **more)
    return name


def body_of(server: RunningServer, path: str) -> dict[str, Any]:
    return [sent for where, sent in server.engine.bodies if where == path][-1]


def picture(width: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, 8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


async def test_the_renderer_makes_the_prompt_of_chat_and_generate(server: RunningServer) -> None:
    name = add(server, "qwen3.5", "qwen3.5", jinja="{{ messages }}", texts={"system": "Be kind."})
    want = RENDERERS["qwen3.5"].render([Message("system", "Be kind."), Message("user", "hi")], (), True)
    _, chat = await server.post("/api/chat", {"model": name, "messages": USER, "_debug_render_only": True})
    _, generate = await server.post("/api/generate", {"model": name, "prompt": "hi", "_debug_render_only": True})
    for reply in (chat, generate):
        assert reply["_debug_info"]["rendered_template"] == want
        assert "warnings" not in reply
    await server.post("/api/chat", {"model": name, "messages": USER})
    assert body_of(server, "/completion")["prompt"] == want


async def test_thinking_and_calls_are_read_by_the_parser_and_its_tokens_kept_visible(server: RunningServer) -> None:
    name = add(server, "qwen3.5", "qwen3.5")
    server.engine.reply = "deep </think> look\n<tool_call>\n<function=weather>\n</function>\n</tool_call>"
    _, reply = await server.post("/api/chat", {"model": name, "messages": USER, "tools": [WEATHER]})
    message = reply["message"]
    assert (message["thinking"].strip(), message["content"].strip()) == ("deep", "look")
    assert message["tool_calls"][0]["function"] == {"index": 0, "name": "weather", "arguments": {}}
    assert {"<think>", "</think>", "<tool_call>"} <= set(body_of(server, "/completion")["preserved_tokens"])
    server.engine.reply = "deep </think> look"
    _, reply = await server.post("/api/generate", {"model": name, "prompt": "hi"})
    assert (reply["thinking"].strip(), reply["response"]) == ("deep", "look")
    _, reply = await server.post("/api/generate", {"model": name, "prompt": "hi", "think": False})
    assert "thinking" not in reply


async def test_a_prompt_that_closed_the_thinking_leaves_none_to_read(server: RunningServer) -> None:
    name = add(server, "nemotron-3-nano", "nemotron-3-nano")
    server.engine.reply = "plain"
    asked = [{"role": "user", "content": "hi /no_think"}]
    _, reply = await server.post("/api/chat", {"model": name, "messages": asked})
    assert reply["message"]["content"] == "plain"


async def test_a_call_that_cannot_be_read_is_content_with_a_warning_and_an_error_for_who_is_strict(
    server: RunningServer,
) -> None:
    name = add(server, "glm-4.7", "glm-4.7")
    server.engine.reply = "hm</think>a <tool_call><arg_key>x</arg_key></tool_call>"
    body = {"model": name, "messages": USER, "tools": [WEATHER]}
    _, reply = await server.post("/api/chat", body)
    assert reply["message"]["content"].startswith("a")
    assert "<tool_call>" in reply["message"]["content"]
    assert reply["warnings"][0]["code"] == "tool_call_unparsed"
    status, reply = await server.post("/api/chat", {**body, "strict": True})
    assert (status, reply["error"]) == (500, "empty function name")


async def test_a_parser_reads_answers_to_a_go_template(server: RunningServer) -> None:
    name = add(server, "", "ministral", texts={"template": "[INST]{{ range .Messages }}{{ .Content }}{{ end }}[/INST]"})
    server.engine.reply = "[TOOL_CALLS]weather[ARGS]{}"
    _, reply = await server.post("/api/chat", {"model": name, "messages": USER, "tools": [WEATHER]})
    assert reply["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert body_of(server, "/completion")["prompt"] == "[INST]hi[/INST]"


async def test_images_between_texts_go_to_the_engine_in_their_places(server: RunningServer, tmp_path: Path) -> None:
    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    name = add(server, "qwen3-vl-instruct", "qwen3-vl-instruct", extra={media.PROJECTOR: projector})
    first, second, third = (picture(width) for width in (8, 9, 10))
    messages = [
        {"role": "user", "content": "left [img] right [img] end", "images": [first, second]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "and this?", "images": [third]},
    ]
    await server.post("/api/chat", {"model": name, "messages": messages})
    sent = body_of(server, "/completion")["prompt"]
    assert sent["multimodal_data"] == [first, second, third]
    assert "user\nleft <__media__> right <__media__> end<|im_end|>" in sent["prompt_string"]
    assert "user\n<__media__> and this?<|im_end|>" in sent["prompt_string"]
    await server.post("/api/generate", {"model": name, "prompt": "see [img]!", "images": [first]})
    assert "user\nsee <__media__>!<|im_end|>" in body_of(server, "/completion")["prompt"]["prompt_string"]


async def test_the_oldest_messages_go_when_the_window_is_too_small(server: RunningServer) -> None:
    name = add(server, "qwen3-coder", "qwen3-coder")
    history = [{"role": "user", "content": "word " * 40}, {"role": "assistant", "content": "ok"}, *USER]
    body = {"model": name, "messages": history, "options": {"num_ctx": 20}}
    _, reply = await server.post("/api/chat", body)
    assert (reply["warnings"][0]["code"], reply["warnings"][0]["dropped"]) == ("history_truncated", 2)
    prompt = server.engine.detokenize(body_of(server, "/completion")["prompt"])
    assert prompt.startswith("<|im_start|>user\nhi")


async def test_tokens_of_a_chat_are_those_of_the_rendered_prompt(server: RunningServer) -> None:
    name = add(server, "glm-4.7", "glm-4.7")
    status, reply = await server.post("/v1/messages/count_tokens", {"model": name, "messages": USER})
    prompt = RENDERERS["glm-4.7"].render([Message("user", "hi")], (), True)
    assert (status, reply["input_tokens"]) == (200, len(server.engine.tokenize(prompt)))


async def test_an_unknown_renderer_never_glues_turns_together(server: RunningServer) -> None:
    name = add(server, "qwen9")
    turns = [{"role": "system", "content": "S"}, *USER]
    _, reply = await server.post("/api/chat", {"model": name, "messages": turns})
    assert reply["warnings"][0]["code"] == "renderer_replaced"
    assert body_of(server, "/v1/chat/completions")["messages"][0]["role"] == "system"
    _, reply = await server.post("/api/generate", {"model": name, "prompt": "hi", "system": "S"})
    assert reply["warnings"][0]["code"] == "renderer_replaced"
    assert [turn["role"] for turn in body_of(server, "/apply-template")["messages"]] == ["system", "user"]


async def test_what_a_renderer_does_not_allow_is_a_bad_request(server: RunningServer) -> None:
    name = add(server, "qwen3.8", "qwen3.5")
    status, reply = await server.post("/api/chat", {"model": name, "messages": [{"role": "system", "content": "S"}]})
    assert (status, reply["error"]) == (400, "no user query found in messages")


async def test_arguments_nested_to_the_limit_are_an_answer_or_a_bad_request(server: RunningServer) -> None:
    arguments: Any = {}
    for _ in range(900):
        arguments = {"a": arguments}
    call = {"function": {"name": "f", "arguments": arguments}}
    messages = [*USER, {"role": "assistant", "tool_calls": [call]}, *USER]
    for renderer in RENDERERS:
        name = add(server, renderer, "qwen3.5")
        status, reply = await server.post("/api/chat", {"model": name, "messages": messages})
        assert status == 200 or (status == 400 and "nested too deeply" in reply["error"]), (renderer, reply)


async def test_a_format_or_a_forced_call_binds_the_answer_behind_the_thinking(server: RunningServer) -> None:
    name = add(server, "qwen3.5", "qwen3.5")
    await server.post("/api/chat", {"model": name, "messages": USER, "format": "json"})
    assert "%json" in body_of(server, "/completion")["grammar"]
    body = {"model": name, "messages": USER, "tools": [WEATHER], "tool_choice": "required"}
    _, reply = await server.post("/api/chat", body)
    grammar = body_of(server, "/completion")["grammar"]
    assert '"<tool_call>\\n<function="' in grammar
    assert '"weather>\\n"' in grammar
    assert '"</function>\\n</tool_call>"' in grammar
    assert [warning["code"] for warning in reply["warnings"]] == ["tool_choice_unmet"]  # a fake engine heeds no grammar
    await server.post("/api/chat", {"model": name, "messages": USER, "tools": [WEATHER]})
    assert "grammar" not in body_of(server, "/completion")


async def test_text_of_a_model_with_an_opening_is_bound_behind_it(server: RunningServer) -> None:
    name = add(server, "cohere", "cohere")
    await server.post("/api/chat", {"model": name, "messages": USER, "format": "json", "think": False})
    assert '"<|START_TEXT|>" ' in body_of(server, "/completion")["grammar"]
    prefilled = [*USER, {"role": "assistant", "content": "{"}]
    await server.post("/api/chat", {"model": name, "messages": prefilled, "format": "json", "think": False})
    assert "START_TEXT" not in body_of(server, "/completion")["grammar"]
    body = {"model": name, "messages": USER, "grammar": 'root ::= "a"', "think": False}
    await server.post("/api/chat", body)
    assert body_of(server, "/completion")["grammar"].startswith('root ::= "<|START_TEXT|>" answer-root\n')
