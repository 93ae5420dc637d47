"""Arguments that grow while the model writes them, on the real engine: both ways, every API that streams them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.e2e.conftest import ServerProcess
from tests.e2e.test_tools import GO, JINJA
from tests.fakes.made import made
from tests.fakes.scripted import scripted_llama

pytestmark = pytest.mark.e2e

LINES = [f"line {number} of it\\n" for number in range(30)]
WRITE = {
    "name": "write_file",
    "description": "Writes a file",
    "parameters": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
        "additionalProperties": False,
    },
}
CHAIN = [
    *("<|tools|>", "<tool_call>", '\n{"name": "', "write", '_file"', ', "arguments": ', '{"text', '": "'),
    *(*LINES, '"}', "}\n", "</tool_call>"),
]
FORCED = [" ", '"', *CHAIN[8:]]  # a grammar may force the text before the value as other tokens
WRITTEN = {"text": "".join(LINES).replace("\\n", "\n")}


CUT = {"go": 20, "jinja": 20}  # tokens, some lines into the text


@pytest.fixture(scope="module", params=["go", "jinja"])
def writer(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, request: Any
) -> Iterator[tuple[ServerProcess, int]]:
    """The server, and how many tokens cut the call in the middle."""
    folder = tmp_path_factory.mktemp("writer")
    jinja = JINJA if request.param == "jinja" else None
    controls = ["<|tools|>", "<|answer|>"]
    gguf = scripted_llama(folder / "writer.gguf", [CHAIN, FORCED], chat_template=jinja, controls=controls)
    fields = {} if jinja else {"template": GO}
    with made(server, "writer", {"writer.gguf": gguf}, parameters={"temperature": 0}, **fields):
        yield server, CUT[request.param]


@dataclass
class Seen:
    """A call as a client of any API sees it come."""

    pieces: list[str] = field(default_factory=list)
    name: str = ""
    reason: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def events(server: ServerProcess, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    data = json.dumps({"model": "writer", "stream": True, **body}).encode()
    request = Request(server.url + path, data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as response:
        for line in response:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])


def chat(server: ServerProcess, max_tokens: int | None, asked: str = "Write it.") -> Seen:
    body = {"messages": [{"role": "user", "content": asked}], "tools": [{"type": "function", "function": WRITE}]}
    seen = Seen()
    for event in events(server, "/v1/chat/completions", body | ({"max_tokens": max_tokens} if max_tokens else {})):
        choice = event["choices"][0]
        seen.reason = choice["finish_reason"] or seen.reason
        for piece in choice["delta"].get("tool_calls", ()):
            seen.name += piece["function"].get("name", "")
            seen.pieces.append(piece["function"]["arguments"])
    return seen


def message(server: ServerProcess, max_tokens: int | None) -> Seen:
    tool = {"name": WRITE["name"], "description": WRITE["description"], "input_schema": WRITE["parameters"]}
    body = {
        "messages": [{"role": "user", "content": "Write it."}],
        "tools": [tool],
        "max_tokens": max_tokens or 1000,
    }
    seen = Seen()
    for event in events(server, "/v1/messages", body):
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            seen.name = event["content_block"]["name"]
        if event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            seen.pieces.append(event["delta"]["partial_json"])
        if event["type"] == "message_delta":
            seen.reason = event["delta"]["stop_reason"]
    return seen


def response(server: ServerProcess, max_tokens: int | None) -> Seen:
    body: dict[str, Any] = {"input": "Write it.", "tools": [{"type": "function", **WRITE}], "store": False}
    seen = Seen()
    for event in events(server, "/v1/responses", body | ({"max_output_tokens": max_tokens} if max_tokens else {})):
        if event["type"] == "response.function_call_arguments.delta":
            seen.pieces.append(event["delta"])
        if event["type"] == "response.output_item.done" and event["item"]["type"] == "function_call":
            seen.name, seen.reason = event["item"]["name"], event["item"]["status"]
            assert event["item"]["arguments"] == seen.text
    return seen


@pytest.mark.parametrize(
    ("api", "whole", "cut"),
    [(chat, "tool_calls", "length"), (message, "tool_use", "max_tokens"), (response, "completed", "incomplete")],
)
def test_a_file_is_seen_growing_and_one_that_is_cut_is_no_call(
    writer: tuple[ServerProcess, int], api: Any, whole: str, cut: str
) -> None:
    server, tokens = writer
    seen = api(server, None)
    assert (seen.name, json.loads(seen.text), seen.reason) == ("write_file", WRITTEN, whole)
    assert len(seen.pieces) > 25
    begun = api(server, tokens)
    assert (begun.name, begun.reason) == ("write_file", cut)
    assert "line 3 of it" in begun.text
    with pytest.raises(json.JSONDecodeError):
        json.loads(begun.text)


def test_the_native_api_has_the_call_whole(writer: tuple[ServerProcess, int]) -> None:
    body = {"model": "writer", "messages": [{"role": "user", "content": "Write it."}]}
    lines = list(writer[0].stream("/api/chat", body | {"tools": [{"type": "function", "function": WRITE}]}))
    calls = [call["function"] for line in lines for call in line["message"].get("tool_calls", ())]
    assert [(call["name"], call["arguments"]) for call in calls] == [("write_file", WRITTEN)]
    assert not any(line["message"]["content"] for line in lines)


def test_a_broken_call_goes_back_with_what_was_wrong_with_it(writer: tuple[ServerProcess, int]) -> None:
    server, tokens = writer
    begun = chat(server, tokens)
    call = {"id": "call_a", "type": "function", "function": {"name": begun.name, "arguments": begun.text}}
    body = {
        "model": "writer",
        "messages": [
            {"role": "user", "content": "Write it."},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_a", "content": "the arguments are no JSON"},
        ],
        "tools": [{"type": "function", "function": WRITE}],
    }
    choice = server.post("/v1/chat/completions", body)["choices"][0]
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == WRITTEN
