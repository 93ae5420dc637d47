"""The native API on the real engine: what an answer must match, how it continues, what its metrics say."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, linked_store, start_server

pytestmark = pytest.mark.e2e

MODEL = "smollm2:135m"
GREEDY = {"temperature": 0, "seed": 7}
COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
    },
}


def ask(server: ServerProcess, **fields: Any) -> dict[str, Any]:
    """One chat answer, not streamed."""
    messages = [{"role": "user", "content": fields.pop("text", "Name a colour.")}]
    reply: dict[str, Any] = server.post(
        "/api/chat", {"model": MODEL, "messages": messages, "options": GREEDY, **fields}
    )
    return reply


def test_a_schema_binds_the_answer(server: ServerProcess) -> None:
    assert json.loads(ask(server, format=COLOUR)["message"]["content"])["colour"] in {"red", "blue"}


def test_json_is_one_object(server: ServerProcess) -> None:
    options = {**GREEDY, "num_predict": 200}
    reply = ask(server, format="json", text="Answer with a JSON object that has one short field.", options=options)
    if reply["done_reason"] == "stop":
        assert isinstance(json.loads(reply["message"]["content"]), dict)
    assert reply["message"]["content"].lstrip().startswith("{")


def test_choices_and_expressions_bind_the_answer(server: ServerProcess) -> None:
    assert ask(server, choice=["red", "green"])["message"]["content"] in {"red", "green"}
    assert ask(server, regex="[0-9]{3}-[ab]")["message"]["content"][3] == "-"
    assert ask(server, grammar='root ::= "yes" | "no"')["message"]["content"] in {"yes", "no"}


def test_an_unresolvable_reference_in_a_schema_is_named(server: ServerProcess) -> None:
    body = {"model": MODEL, "prompt": "x", "format": {"$ref": "#/nope"}}
    with pytest.raises(OSError, match="400") as refused:
        server.post("/api/generate", body)
    assert "nope" in refused.value.read().decode()  # type: ignore[attr-defined]


def test_a_model_without_tools_can_be_made_to_call_one(server: ServerProcess) -> None:
    reply = ask(server, text="Weather in Paris?", tools=[WEATHER], generic_tools=True, tool_choice="required")
    call = reply["message"]["tool_calls"][0]["function"]
    assert call["name"] == "get_weather"
    assert call["arguments"]["city"] in {"Paris", "Rome"}


def test_the_context_of_an_answer_continues_it(server: ServerProcess) -> None:
    body = {"model": MODEL, "prompt": "My name is Zed.", "options": {**GREEDY, "num_predict": 8}}
    first = server.post("/api/generate", body)
    shown = server.post(
        "/api/generate",
        {**body, "prompt": "And now?", "context": first["context"], "_debug_render_only": True},
    )
    assert "Zed" in shown["_debug_info"]["rendered_template"]
    second = server.post("/api/generate", {**body, "prompt": "And now?", "context": first["context"]})
    assert second["prompt_eval_count"] > first["prompt_eval_count"] + first["eval_count"]
    assert second["prompt_eval_cached_count"] > 0


def test_no_tokens_asked_for_are_no_tokens_made(server: ServerProcess) -> None:
    reply = ask(server, options={"num_predict": 0})
    assert (reply["message"]["content"], reply["done_reason"]) == ("", "length")


def test_logprobs_add_up_to_the_text(server: ServerProcess) -> None:
    reply = ask(server, logprobs=True, top_logprobs=2, options={**GREEDY, "num_predict": 5})
    assert "".join(entry["token"] for entry in reply["logprobs"]) == reply["message"]["content"]
    assert all(len(entry["top_logprobs"]) == 2 and entry["logprob"] <= 0 for entry in reply["logprobs"])


def test_logprobs_name_control_tokens(server: ServerProcess) -> None:
    asked = {"logprobs": True, "top_logprobs": 20, "options": {**GREEDY, "num_predict": 1}}
    prompt = "<|im_start|>user\nSay hi<|im_end|>\n<|im_start|>assistant\nHi there, my dear friend!"
    replies = [
        server.post("/api/generate", {"model": MODEL, "prompt": prompt, "raw": True, **asked}),
        ask(server, **{**asked, "options": {**GREEDY, "num_predict": 6}}),
    ]
    first, second = (
        {top["token"] for entry in reply["logprobs"] for top in entry["top_logprobs"]} for reply in replies
    )
    assert "<|im_end|>" in first
    assert "" not in first | second


def test_a_prompt_over_the_window_is_cut_and_it_is_said(server: ServerProcess) -> None:
    options = {**GREEDY, "num_ctx": 256, "num_predict": 3}
    reply = server.post("/api/generate", {"model": MODEL, "prompt": "word " * 600, "options": options})
    assert [warning["code"] for warning in reply["warnings"]] == ["prompt_truncated"]
    assert reply["prompt_eval_count"] <= 256


def test_tokens_go_there_and_back(server: ServerProcess) -> None:
    ids = server.post("/api/tokenize", {"model": MODEL, "text": "The sky is blue."})["tokens"]
    assert server.post("/api/detokenize", {"model": MODEL, "tokens": ids})["text"] == "The sky is blue."


def test_sigterm_lets_an_answer_end_and_leaves_no_runner(server: ServerProcess, tmp_path: Path) -> None:
    own = start_server(tmp_path, models=linked_store(server.models, tmp_path / "models"))
    body = {"model": MODEL, "prompt": "Count to ten:", "raw": True, "options": {**GREEDY, "num_predict": 40}}
    lines = own.stream("/api/generate", body)
    next(lines)
    pids = [row["pid"] for row in own.request("GET", "/api/ps?verbose=1")["models"]]
    own.process.send_signal(signal.SIGTERM)
    assert list(lines)[-1]["done_reason"] in {"length", "stop"}
    assert own.process.wait(30) == 0
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
