"""Answers that must match something, on SmolLM2: JSON, schemas, GBNF, regular expressions, choices."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.made import refused

pytestmark = pytest.mark.e2e

MODEL = "smollm2:135m"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
ROUTES = pytest.mark.parametrize("route", ["/api/chat", "/api/generate"])


def body_of(route: str, num_predict: int = 60, **more: Any) -> dict[str, Any]:
    text = "Describe a person."
    turn = {"prompt": text} if route == "/api/generate" else {"messages": [{"role": "user", "content": text}]}
    return {"model": MODEL, "options": {"temperature": 0, "seed": 7, "num_predict": num_predict}, **turn, **more}


def answer(server: ServerProcess, route: str, **more: Any) -> tuple[str, str]:
    """(text, done_reason)."""
    reply = server.post(route, body_of(route, **more))
    message = reply.get("message") or reply
    return message.get("content", message.get("response")), reply["done_reason"]


@ROUTES
def test_a_schema_is_met_and_the_answer_ends(server: ServerProcess, route: str) -> None:
    text, reason = answer(server, route, format=PERSON)
    person = json.loads(text)
    assert set(person) == {"name", "age"}
    assert 0 <= person["age"] <= 99
    assert reason == "stop"


@ROUTES
def test_blanks_do_not_run_on(server: ServerProcess, route: str) -> None:
    const = {"type": "object", "properties": {"k": {"const": "v"}}, "required": ["k"], "additionalProperties": False}
    assert answer(server, route, format=const, num_predict=40) == ('{"k": "v"}', "stop")


@ROUTES
def test_json_is_an_object(server: ServerProcess, route: str) -> None:
    text, reason = answer(server, route, format="json", num_predict=200)
    assert text.startswith("{")
    if reason == "stop":
        assert isinstance(json.loads(text), dict)


@ROUTES
def test_grammar_regex_and_choice(server: ServerProcess, route: str) -> None:
    text, reason = answer(server, route, grammar='root ::= ("red" | "green") "!"')
    assert (text in {"red!", "green!"}, reason) == (True, "stop")
    text, reason = answer(server, route, regex="[A-Z][a-z]{2,5}-[0-9]{4}")
    assert re.fullmatch("[A-Z][a-z]{2,5}-[0-9]{4}", text)
    assert reason == "stop"
    text, reason = answer(server, route, choice=["left", "right"])
    assert (text in {"left", "right"}, reason) == (True, "stop")


@ROUTES
@pytest.mark.parametrize(
    ("constraint", "why"),
    [
        ({"format": {"$ref": "#/nope"}}, "nope"),
        ({"format": {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}}, '"not"'),
        ({"format": {"type": "thing"}}, '"type"'),
        ({"format": {"type": "string", "minLength": 9, "maxLength": 3}}, "minLength"),
        ({"format": {"type": "string", "pattern": "(?=a)"}}, "pattern"),
        ({"regex": "(a"}, "regex"),
        ({"regex": "a{99999999}"}, "regex"),
        ({"grammar": 'start ::= "a"'}, "root"),
        ({"choice": ["a", ""]}, "choice"),
        ({"format": "json", "regex": "a"}, "only one of"),
    ],
)
def test_what_cannot_be_met_is_a_400_that_names_it(
    server: ServerProcess, route: str, constraint: dict[str, Any], why: str
) -> None:
    status, text = refused(server, route, body_of(route, **constraint))
    assert status == 400
    assert why in text


def test_a_grammar_that_the_engine_cannot_read_is_a_400_or_says_so(server: ServerProcess) -> None:
    status, text = refused(server, "/api/generate", body_of("/api/generate", grammar="root ::= nowhere"))
    assert status == 400
    assert "grammar" in text


def test_a_huge_schema_is_bounded(server: ServerProcess) -> None:
    many = {"type": "object", "properties": {f"p{n}": {"enum": [n]} for n in range(20_000)}}
    start = time.monotonic()
    status, text = refused(server, "/api/chat", body_of("/api/chat", format=many))
    assert status == 400
    assert "format" in text
    assert time.monotonic() - start < 20
    large = {"type": "object", "properties": {f"p{n}": {"enum": [n]} for n in range(300)}, "required": ["p7"]}
    text, _ = answer(server, "/api/chat", format=large, num_predict=5)
    assert text.startswith("{")


def test_the_openai_and_anthropic_forms(server: ServerProcess) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Describe a person."}]}
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    sampling = {"temperature": 0, "seed": 7, "max_tokens": 60}
    reply = server.post("/v1/chat/completions", {**asked, **sampling, "response_format": form})
    assert set(json.loads(reply["choices"][0]["message"]["content"])) == {"name", "age"}
    config = {"format": {"type": "json_schema", "schema": PERSON}}
    message = server.post("/v1/messages", {**asked, "temperature": 0, "max_tokens": 60, "output_config": config})
    assert set(json.loads(message["content"][0]["text"])) == {"name", "age"}
