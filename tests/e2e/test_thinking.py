"""Thinking on the real engine, with a model that always thinks the same: five tokens of thought, then four of answer.

Both prompt paths (a Go template, the GGUF's Jinja), tags as plain and as control tokens, opened by the model or by the
prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.made import made, refused
from tests.fakes.scripted import scripted_llama

pytestmark = pytest.mark.e2e

MODEL = "thinker"
THOUGHT, ANSWER = "I must think about this", "Blue it is."
TAGS = ("<think>", "</think>")
GO = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n"
    "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n{{ if and .IsThinkSet .Think }}OPENING{{ else }}<|answer|>{{ end }}"
)
JINJA = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n<|answer|>"
    "{% else %}OPENING{% endif %}{% endif %}"
)
SCHEMA = {"type": "object", "properties": {"color": {"enum": ["blue"]}}, "required": ["color"]}


@dataclass(frozen=True)
class Kind:
    path: str
    opened: bool
    controls: bool

    def __str__(self) -> str:
        return f"{self.path}-{'prompt' if self.opened else 'model'}-{'control' if self.controls else 'plain'}"


KINDS = [
    Kind(path, opened, controls) for path in ("go", "jinja") for opened in (False, True) for controls in (False, True)
]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def thinker(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    kind: Kind = request.param
    opening = "<think>" if kind.opened else "<|think|>"
    answer = ["Blue", " it", " is", "."]
    chains = [
        ["<|think|>", "<think>", " I", " must", " think", " about", " this", "</think>", *answer],
        ["<|answer|>", *answer],
    ]
    gguf = scripted_llama(
        tmp_path_factory.mktemp("thinker") / "thinker.gguf",
        chains,
        chat_template=JINJA.replace("OPENING", opening) if kind.path == "jinja" else None,
        controls=["<|think|>", "<|answer|>", *(TAGS if kind.controls else ())],
    )
    fields = {"template": GO.replace("OPENING", opening)} if kind.path == "go" else {}
    with made(server, MODEL, {"thinker.gguf": gguf}, **fields):
        yield server


def body_of(route: str, **more: Any) -> dict[str, Any]:
    options = {"temperature": 0, "num_predict": 40}
    turn = {"prompt": "hi"} if route == "/api/generate" else {"messages": [{"role": "user", "content": "hi"}]}
    return {"model": MODEL, "options": options, **turn, **more}


def ask(server: ServerProcess, route: str, **more: Any) -> tuple[str, str]:
    """(thinking, answer)."""
    reply = server.post(route, body_of(route, **more))
    assert reply["done_reason"] == "stop"
    assert "warnings" not in reply
    message = reply.get("message") or reply
    return message.get("thinking", "").strip(), message.get("content", message.get("response"))


ROUTES = pytest.mark.parametrize("route", ["/api/chat", "/api/generate"])


@ROUTES
def test_think_true_false_and_levels(thinker: ServerProcess, route: str) -> None:
    assert ask(thinker, route) == (THOUGHT, ANSWER)
    assert ask(thinker, route, think=False) == ("", ANSWER)
    for level in (True, "low", "medium", "high", "max"):
        assert ask(thinker, route, think=level) == (THOUGHT, ANSWER)


@ROUTES
def test_a_number_is_a_budget_of_thinking_tokens_then_the_answer_is_forced(thinker: ServerProcess, route: str) -> None:
    assert ask(thinker, route, think=3) == ("I must think", ANSWER)
    assert ask(thinker, route, think=50) == (THOUGHT, ANSWER)
    assert ask(thinker, route, think=0) == ("", ANSWER)


@ROUTES
def test_thinking_and_answer_are_streamed_apart(thinker: ServerProcess, route: str) -> None:
    lines = list(thinker.stream(route, body_of(route, think=True)))
    parts = [line.get("message") or line for line in lines]
    thinking = [part.get("thinking", "") for part in parts]
    content = [part.get("content", part.get("response", "")) for part in parts]
    assert "".join(thinking).strip() == THOUGHT
    assert "".join(content) == ANSWER
    assert len([piece for piece in thinking if piece]) > 2
    assert max(i for i, piece in enumerate(thinking) if piece) < min(i for i, piece in enumerate(content) if piece)


@ROUTES
def test_a_format_binds_the_answer_behind_free_thinking_in_one_pass(thinker: ServerProcess, route: str) -> None:
    for think, expected in ((True, THOUGHT), (3, "I must think"), (False, "")):
        thought, answer = ask(thinker, route, format=SCHEMA, think=think)
        assert (thought, json.loads(answer)) == (expected, {"color": "blue"})
    assert ask(thinker, route, choice=["red", "green"])[0] == THOUGHT
    assert ask(thinker, route, regex="[0-9]{3}", think=2)[0] == "I must"
    thought, answer = ask(thinker, route, grammar='root ::= "yes" | "no"')
    assert thought == THOUGHT
    assert answer in {"yes", "no"}


def test_reasoning_effort_and_budget_tokens_reach_the_model(thinker: ServerProcess) -> None:
    turn = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 40}
    high = thinker.post("/v1/chat/completions", {**turn, "reasoning_effort": "high"})
    assert high["choices"][0]["message"]["reasoning"].strip() == THOUGHT
    assert high["choices"][0]["message"]["content"] == ANSWER
    assert high["usage"]["completion_tokens_details"]["reasoning_tokens"] >= 5
    none = thinker.post("/v1/chat/completions", {**turn, "reasoning_effort": "none"})
    assert "reasoning" not in none["choices"][0]["message"]
    assert none["choices"][0]["message"]["content"] == ANSWER
    bound = thinker.post("/v1/messages", {**turn, "thinking": {"type": "enabled", "budget_tokens": 3}})
    thinking, text = bound["content"]
    assert (thinking["thinking"].strip(), text["text"]) == ("I must think", ANSWER)


def test_a_model_that_cannot_think_says_so(server: ServerProcess) -> None:
    body = {"model": "smollm2:135m", "messages": [{"role": "user", "content": "hi"}]}
    assert refused(server, "/api/chat", {**body, "think": True}) == (400, '"smollm2:135m" does not support thinking')
    status, text = refused(server, "/api/chat", {**body, "think": 3})
    assert status == 400
    assert text.startswith("think must be a boolean or string")
