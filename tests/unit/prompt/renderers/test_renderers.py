"""Prompts of the named renderers, byte for byte as Ollama prints them; requests come through the API's own decoder."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from corral.api.native import decode_chat
from corral.core import Caller, ChatRequest, Message, Tool, ToolCall
from corral.errors import InvalidRequest
from corral.prompt.renderers.glimmer import Glimmer, local_date
from corral.prompt.renderers.registry import RENDERERS, Renderer, renderer

ROOT = Path(__file__).parents[4]
GOLDEN = json.loads((ROOT / "tests/golden/renderers.json").read_text())
LIBRARY = ROOT.parent / "shared/library/renderers.json"
DATE = re.compile(r"20\d\d-\d\d-\d\d\.\n\nReasoning")
QUESTION = (Message("user", "Q"),)
EACH = [pytest.param(found, id=name) for name, found in RENDERERS.items()]


def cases() -> Iterator[Any]:
    for case in GOLDEN["cases"]:
        name = f"{case['renderer']}/{case['conversation']}/{case.get('think')}"
        yield pytest.param(case, GOLDEN["conversations"][case["conversation"]], id=name.replace(" ", "-"))


def decoded(conversation: dict[str, Any], think: Any) -> ChatRequest:
    body = dict(conversation, model="m", think=think)
    return decode_chat(json.dumps(body).encode(), Caller()).request


def rendered(name: str, request: ChatRequest) -> str:
    found = renderer(name)
    assert found is not None
    return found.render(request.messages, request.tools, request.parameters.think)


def undated(prompt: str) -> str:
    return DATE.sub("DATE.\n\nReasoning", prompt)


@pytest.mark.parametrize(("case", "conversation"), list(cases()))
def test_a_prompt_is_ollamas_to_the_byte(case: dict[str, Any], conversation: dict[str, Any]) -> None:
    request = decoded(conversation, case.get("think"))
    if "error" in case:
        with pytest.raises(InvalidRequest, match=case["error"]):
            rendered(case["renderer"], request)
    else:
        assert undated(rendered(case["renderer"], request)) == undated(case["prompt"])


@pytest.mark.skipif(not LIBRARY.exists(), reason="../shared/library is not beside this checkout")
@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_the_whole_library_of_prompts_is_ollamas(name: str) -> None:
    library = json.loads(LIBRARY.read_text())
    image = base64.b64encode(b"any picture").decode()
    conversations = json.loads(json.dumps(library["conversations"]).replace("@square64.png", image))
    checked = 0
    for case in library["cases"]:
        if case["renderer"] == name:
            think = case.get("think", True)  # what a model that thinks does when nothing is said
            prompt = rendered(name, decoded(conversations[case["conversation"]], think))
            assert undated(prompt) == undated(case["prompt"]), (case["conversation"], think)
            checked += 1
    assert checked


def test_every_name_that_ollamas_configs_use_is_known() -> None:
    assert {case["renderer"] for case in GOLDEN["cases"]} == set(RENDERERS)


@pytest.mark.parametrize("name", ["", "Qwen3.5", "registry", "../qwen3.5", "__class__", "gemma4\n", "x" * 10_000])
def test_a_name_from_a_hostile_config_finds_nothing(name: str) -> None:
    assert renderer(name) is None


@pytest.mark.parametrize("found", EACH)
def test_a_prompt_begins_with_the_token_that_the_engine_may_add_itself(found: Renderer) -> None:
    assert found.render(QUESTION, (), True).startswith(found.bos)


@pytest.mark.parametrize("found", EACH)
def test_a_budget_of_thinking_tokens_is_thinking_and_none_is_not(found: Renderer) -> None:
    assert found.render(QUESTION, (), 500) == found.render(QUESTION, (), True)
    assert found.render(QUESTION, (), 0) == found.render(QUESTION, (), False)


def test_glimmer_is_told_todays_date_unless_a_system_text_stands_for_it() -> None:
    today = Glimmer(lambda: date(2031, 2, 3))
    assert "Current date: 2031-02-03." in today.render(QUESTION, (), True)
    assert "2031" not in today.render((Message("system", "S"), *QUESTION), (), True)
    assert f"Current date: {local_date()}." in Glimmer().render(QUESTION, (), True)


def test_whole_numbers_too_large_for_a_float_keep_their_digits() -> None:
    call = ToolCall("f", {"id": 9007199254740993})
    for name in ("qwen3.5", "glm-4.7", "gemma4", "nemotron-3-nano", "olmo3"):
        found = renderer(name)
        assert found is not None
        assert "9007199254740993" in found.render([*QUESTION, Message("assistant", tool_calls=(call,))], (), True)


@pytest.mark.parametrize("found", EACH)
def test_schemas_that_are_no_schemas_are_read_as_far_as_they_go(found: Renderer) -> None:
    parameters = {
        "type": ["object"],
        "required": "a",
        "properties": {"a": 5, "b": {"type": 3, "enum": "x", "anyOf": 1}},
    }
    whole = {"type": "object", "required": [], "properties": {"a": {}, "b": {"type": ""}}}
    odd, plain = (found.render(QUESTION, [Tool("f", parameters=schema)], True) for schema in (parameters, whole))
    assert odd == plain


@pytest.mark.parametrize("found", EACH)
@pytest.mark.timeout(30)  # a second when time grows with the length, minutes when with its square
def test_the_time_for_a_conversation_grows_with_its_length(found: Renderer) -> None:
    result = Message("tool", "r", tool_call_id="c")
    turn = [Message("assistant", tool_calls=(ToolCall("f", {}, id="c"),)), result]
    many = Message("assistant", tool_calls=(ToolCall("f", {}),) * 10_000)
    assert found.render([*QUESTION, *turn * 5_000, many, *[result] * 10_000], (), True)
