"""Thinking of earlier turns on the real engine: the model's own template decides what of it the model sees again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.made import made
from tests.fakes.scripted import scripted_llama

pytestmark = pytest.mark.e2e

MODEL = "looping-thinker"
# As the templates of Qwen3, GLM and Nemotron: thinking is shown again behind the last user's turn, in tool loops.
JINJA = """\
{%- set ns = namespace(last=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content and loop.index0 > ns.last %}<think>{{ m.reasoning_content }}</think>{% endif %}
{%- if m.content %}{{ m.content }}{% endif %}
{%- for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
<think>{% endif %}"""
TOOL = {"type": "function", "function": {"name": "look", "description": "Look", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def thinker(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    chains = [["<think>", " hm", "</think>", "Blue"]]
    gguf = scripted_llama(tmp_path_factory.mktemp("loop") / "loop.gguf", chains, chat_template=JINJA)
    with made(server, MODEL, {"loop.gguf": gguf}):
        yield server


def assistant(thinking: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "thinking": thinking, **more}


def test_a_tool_loop_goes_on_with_its_thinking_and_older_thinking_is_the_templates_to_drop(
    thinker: ServerProcess,
) -> None:
    messages = [
        {"role": "user", "content": "First?"},
        assistant("old thought", content="Yes."),
        {"role": "user", "content": "Second?"},
        assistant("I should look.", tool_calls=[{"function": {"name": "look", "arguments": {}}}]),
        {"role": "tool", "content": "a door", "tool_name": "look"},
    ]
    body = {"model": MODEL, "messages": messages, "tools": [TOOL], "stream": False}
    prompt = thinker.post("/api/chat", {**body, "_debug_render_only": True})["_debug_info"]["rendered_template"]
    assert "<think>I should look.</think><tool_call>look</tool_call>" in prompt
    assert "old thought" not in prompt
    reply = thinker.post("/api/chat", {**body, "options": {"temperature": 0, "num_predict": 8}})
    assert reply["message"]["content"].strip() == "Blue"
    assert "warnings" not in reply
