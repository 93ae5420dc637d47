"""The loop serves, it does not compute: no request, however hostile, holds it for 100 ms."""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import Any

import pytest
from tests.fakes.blocking import LONGEST_STEP_S, measured_steps
from tests.fakes.server import RunningServer

MANY = 60_000  # as many objects and arrays as a body may have, nearly
TRIES = 3  # a host that is short of memory or of processors makes a step longer, but not every time
LONG = "word " * 1_000_000
USER = {"role": "user", "content": "hi"}
DEEP: dict[str, Any] = json.loads('{"a":' * 400 + "1" + "}" * 400)
PROPERTIES = {f"p{number}": {"type": "string"} for number in range(5_000)}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": PROPERTIES}}}
LOOP = "{{range 1000000000}}x{{end}}"
DOUBLES = '{{ $x := "xx" }}{{ range 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}{{ $x }}'
CALLS_ITSELF_TWICE = '{{ define "a" }}{{ template "a" . }}{{ template "a" . }}{{ end }}{{ template "a" . }}'
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"model": "go", "prompt": "hi", "template": LOOP}),
    ("/api/generate", {"model": "go", "prompt": "hi", "template": "{{if true}}" * 9_000 + "{{end}}" * 9_000}),
    ("/api/generate", {"model": "go", "prompt": "hi", "template": "{{range 99999}}" * 9 + "x" + "{{end}}" * 9}),
    ("/api/generate", {"model": "go", "prompt": "hi", "template": DOUBLES}),
    ("/api/generate", {"model": "go", "prompt": "hi", "template": CALLS_ITSELF_TWICE}),
    ("/api/generate", {"model": "go", "prompt": "hi", "template": "{{ .Prompt }}" + LOOP, "suffix": "x"}),
    ("/api/generate", {"model": "hostile", "prompt": "hi"}),
    ("/api/generate", {"model": "go", "prompt": "hi", "template": "{{ " + "1" * 200_000 + "e }}"}),
    ("/api/generate", {"model": "go", "prompt": "hi", "template": "{{ 0x" + "1" * 200_000 + "_ }}"}),
    ("/api/generate", {"model": "go", "prompt": LONG}),
    ("/api/generate", {"model": "go", "prompt": '"\\' * 1_000_000, "options": {"stop": ["[]"] * 1_000}}),
    ("/api/generate", {"model": "go", "prompt": "hi", **{f"unknown {number}": 1 for number in range(100_000)}}),
    ("/api/generate", {"model": "jinja", "prompt": LONG}),
    ("/api/generate", {"model": "go", "prompt": "hi", "context": [1] * MANY}),
    ("/api/generate", {"model": "go", "prompt": "hi", "suffix": LONG}),
    ("/api/generate", {"model": "go", "prompt": "hi", "images": ["AAAA"] * 20_000}),
    ("/api/generate", {"model": "go", "prompt": "hi", "format": {"type": "object", "properties": PROPERTIES}}),
    ("/api/generate", {"model": "go", "prompt": "hi", "format": DEEP}),
    ("/api/generate", {"model": "go", "prompt": "hi", "options": {"stop": ["x"] * MANY}}),
    ("/api/chat", {"model": "go", "messages": [USER] * MANY}),
    ("/api/chat", {"model": "jinja", "messages": [USER] * MANY}),
    ("/api/chat", {"model": "go", "messages": [{"role": "user", "content": LONG}]}),
    ("/api/chat", {"model": "jinja", "messages": [{"role": "user", "content": LONG}, USER]}),
    ("/api/chat", {"model": "go", "messages": [USER], "tools": [TOOL] * 12}),
    ("/api/chat", {"model": "jinja", "messages": [USER], "tools": [TOOL] * 12}),
    ("/api/chat", {"model": "hostile", "messages": [USER]}),
    ("/v1/chat/completions", {"model": "hostile", "messages": [USER] * 50}),
    ("/v1/messages", {"model": "hostile", "max_tokens": 1, "messages": [USER]}),
    ("/v1/responses", {"model": "hostile", "input": "hi"}),
    ("/api/embed", {"model": "vectors", "input": ["x"] * 2_000}),
    ("/api/embed", {"model": "vectors", "input": LONG}),
    ("/api/embeddings", {"model": "vectors", "prompt": LONG}),
    ("/api/tokenize", {"model": "go", "content": LONG}),
    ("/api/detokenize", {"model": "go", "tokens": [1] * MANY}),
    ("/api/rerank", {"model": "go", "query": "x", "documents": ["y"] * 5_000}),
    ("/api/create", {"model": "x", "from": "go", "messages": [USER] * MANY}),
    ("/api/create", {"model": "x", "from": "go", "template": "{{if true}}" * 9_000 + "{{end}}" * 9_000}),
    ("/api/create", {"model": "x", "modelfile": "FROM go\n" + "PARAMETER stop x\n" * MANY}),
    ("/api/create", {"model": "x", "from": "go", "system": LONG}),
    ("/api/show", {"model": "large", "verbose": True}),
    ("/api/show", {"model": "go", "x": [1] * 1_000_000}),
    ("/api/show", {"model": "go", "x": '"' * 4_000_000, "y": [{}] * 2_000}),
    ("/api/copy", {"source": "go", "destination": "other", "x": [1] * 1_000_000}),
    ("/api/pull", {"model": "a//b", "x": [1] * 1_000_000}),
    ("/api/push", {"model": "nowhere", "x": [1] * 1_000_000}),
    ("/api/tune", {"model": "nowhere", "x": [1] * 1_000_000}),
    ("/v1/chat/completions", {"model": "go", "messages": [USER] * MANY}),
    ("/v1/chat/completions", {"model": "go", "messages": [USER], "logit_bias": {str(n): 1 for n in range(30_000)}}),
    (
        "/v1/chat/completions",
        {"model": "go", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * MANY}]},
    ),
    ("/v1/completions", {"model": "go", "prompt": [1] * MANY}),
    ("/v1/completions", {"model": "go", "prompt": LONG}),
    ("/v1/embeddings", {"model": "vectors", "input": [[1] * 1000] * 500}),
    ("/v1/responses", {"model": "go", "input": [{"role": "user", "content": "x"}] * MANY}),
    ("/v1/messages", {"model": "go", "max_tokens": 1, "messages": [USER] * MANY}),
    (
        "/v1/messages",
        {"model": "go", "max_tokens": 1, "messages": [USER], "system": [{"type": "text", "text": "x"}] * MANY},
    ),
    ("/v1/messages/count_tokens", {"model": "go", "messages": [{"role": "user", "content": LONG}]}),
]


@pytest.mark.parametrize(
    ("path", "body"), HOSTILE, ids=[f"{path[1:]}-{number}" for number, (path, _) in enumerate(HOSTILE)]
)
async def test_no_request_holds_the_loop(server: RunningServer, path: str, body: dict[str, Any]) -> None:
    server.add("hostile", texts={"template": LOOP + "{{ .Messages }}"})
    tokens = [f"token number {number}" for number in range(300_000)]
    server.add("large", metadata={"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": [0.5] * 300_000})
    data = json.dumps({"stream": False, **body, "options": {"num_predict": 1, **body.get("options", {})}}).encode()
    for _ in range(TRIES):
        with measured_steps() as steps:
            async with server.http.post(server.url + path, data=io.BytesIO(data)) as answer:
                status, _ = answer.status, await answer.read()
        assert status < 500 or status == 507, status
        if steps.longest_s < LONGEST_STEP_S:
            return
    pytest.fail(f"{steps.longest_s:.2f} s in {steps.where}")


async def test_five_at_once_hold_it_no_longer(server: RunningServer) -> None:
    body = {"model": "go", "prompt": "hi", "template": LOOP}
    for _ in range(TRIES):
        with measured_steps() as steps:
            answers = await asyncio.gather(*(server.post("/api/generate", body) for _ in range(5)))
        assert {status for status, _ in answers} == {400}
        if steps.longest_s < LONGEST_STEP_S:
            return
    pytest.fail(f"{steps.longest_s:.2f} s in {steps.where}")


BROKEN = {
    "texts without an end": b'{"model":"go","x":[' + b"[]," * 1_000 + b'"\\' * 1_000_000,
    "a text of quotes": b'{"model":"go","x":' + b"[" * 900 + b'"' + b'\\"' * 3_000_000,
    "a backslash at the end": b"[]" * 1_000 + b'"' + b"a" * 8_000_000 + b"\\",
    "halves of characters": b'{"model":"go","x":"' + b"\\ud800" * 1_000_000,
    "no characters": b'{"model":"go","x":"' + b"\xff" * 8_000_000,
    "brackets": b"[" * 8_000_000,
    "brackets in a text": b'{"model":"go","prompt":"' + b"[{" * 4_000_000,
}


@pytest.mark.parametrize("name", BROKEN)
async def test_no_broken_body_holds_it(server: RunningServer, name: str) -> None:
    """The loop cannot be measured while a thread that does not let go of the interpreter runs: the whole time is."""
    begin = time.monotonic()
    for path in ("/api/generate", "/v1/chat/completions"):
        status, _ = await server.call("POST", path, data=io.BytesIO(BROKEN[name]))
        assert status == 400
    assert time.monotonic() - begin < 10  # on a busy host; alone it is a tenth of it
