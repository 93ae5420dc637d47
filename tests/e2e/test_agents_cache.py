"""What agents really send (tests/golden/agents), through a real engine: second turns and rounds read what is new."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.ggufs import tiny_llama
from tests.fakes.made import made
from tests.fakes.strict import GO_TEMPLATE

pytestmark = pytest.mark.e2e

RECORDED = Path(__file__).parents[1] / "golden" / "agents"
WINDOW = 2**16
MOST = 160  # characters of a text
TOOLS = "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
JINJA = (
    TOOLS + "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)
GO = "{{ range .Tools }}{{ . }}\n{{ end }}" + GO_TEMPLATE
GEMMA = (
    '{{ range $i, $m := .Messages }}{{ if eq .Role "assistant" }}<start_of_turn>model\n{{ .Content }}<end_of_turn>\n'
    "{{ else }}<start_of_turn>user\n{{ .Content }}<end_of_turn>\n{{ end }}{{ end }}<start_of_turn>model\n"
)


class Read(NamedTuple):
    """Tokens of a prompt, and those of them that the engine read now."""

    prompt: int
    new: int


@pytest.fixture(scope="module", params=["jinja", "go"])
def model(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    path = tmp_path_factory.mktemp("agents") / "m.gguf"
    tiny_llama(path, context_length=WINDOW, layers=1, width=32, chat_template=JINJA)
    with made(
        server, f"agent-{request.param}", {"m.gguf": path}, **({"template": GO} if request.param == "go" else {})
    ) as name:
        yield name


def recorded(name: str) -> tuple[str, dict[str, Any]]:
    """Path and body, long texts cut to their beginning: what is new stays new, and the engine has less to read."""
    request = json.loads((RECORDED / f"{name}.json").read_text())
    return request["path"], _cut(request["body"])


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_cut(child) for child in value]
    return value[:MOST] if isinstance(value, str) else value


def ask(server: ServerProcess, model: str, path: str, body: dict[str, Any]) -> Read:
    body = {**body, "model": model, "stream": False, **_short(path)}
    if "options" in body:
        body["options"] = {**body["options"], "num_predict": 4}
    reply = server.post(path, body)
    assert reply.get("warnings", []) == []
    return _read(reply)


def _short(path: str) -> dict[str, Any]:
    return {
        "/v1/responses": {"max_output_tokens": 4},
        "/v1/messages": {"max_tokens": 4},
        "/v1/chat/completions": {"max_tokens": 4},
    }.get(path.partition("?")[0], {})


def _read(reply: dict[str, Any]) -> Read:
    if "prompt_eval_count" in reply:
        prompt = reply["prompt_eval_count"]
        return Read(prompt, prompt - reply.get("prompt_eval_cached_count", 0))
    usage = reply["usage"]
    if "cache_read_input_tokens" in usage:
        return Read(usage["input_tokens"] + usage["cache_read_input_tokens"], usage["input_tokens"])
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    return Read(prompt, prompt - details["cached_tokens"])


@pytest.mark.parametrize("agent", ["aider-ollama", "aider-openai", "codex", "opencode", "claude-code"])
def test_a_second_turn_reads_what_is_new_only(server: ServerProcess, model: str, agent: str) -> None:
    first, second = (ask(server, model, *recorded(f"{agent}-{turn}")) for turn in ("turn1", "turn2"))
    assert first.prompt > 1000
    moved = 2 * MOST if agent.startswith("aider") else 0  # a reminder, at the end of the last message
    assert second.new <= second.prompt - first.prompt + moved + 50


def test_aider_with_gemma_3_reads_its_last_turn_again(server: ServerProcess) -> None:
    """Sliding windows, a reminder that moves, and another num_ctx with every message."""
    with made(server, "gemma-go", from_="gemma3:270m", template=GEMMA) as name:
        first, second = (_whole(server, name, f"aider-ollama-{turn}") for turn in ("turn1", "turn2"))
    assert first.prompt > 1500
    assert second.new <= 500


def _whole(server: ServerProcess, model: str, name: str) -> Read:
    request = json.loads((RECORDED / f"{name}.json").read_text())
    return ask(server, model, request["path"], request["body"])


@pytest.mark.parametrize("agent", ["codex", "opencode", "claude-code"])
def test_each_round_of_a_loop_reads_what_is_new_only(server: ServerProcess, model: str, agent: str) -> None:
    path, body = recorded(f"{agent}-tool-loop")
    key = "input" if "input" in body else "messages"
    calls = [place for place, item in enumerate(body[key]) if _is_call(item)]
    before = ask(server, model, path, {**body, key: body[key][: calls[0]]})
    for number, place in enumerate(calls, 1):
        rest = calls[number] if number < len(calls) else len(body[key])
        if rest == place + 1:
            continue  # a call beside another
        after = ask(server, model, path, {**body, key: body[key][:rest]})
        assert after.new <= after.prompt - before.prompt + 50
        before = after


def _is_call(item: dict[str, Any]) -> bool:
    content = item.get("content")
    uses = isinstance(content, list) and any(block.get("type") == "tool_use" for block in content)
    return bool(item.get("type") == "function_call" or item.get("tool_calls") or uses)
