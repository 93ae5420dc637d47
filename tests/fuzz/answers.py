"""The promise about request bodies: an answer, or an error in the form of the API that says what is wrong."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.server import RunningServer
from tests.fuzz.histories import FORMS, TEMPLATES, Turn, words

OLLAMAS_500 = ("unsupported quantization type ",)
"""How the texts begin that the real Ollama gives with a 500 for what is the client's mistake, and so do we."""


async def check_answer(server: RunningServer, path: str, body: Any) -> int:
    """Raise AssertionError unless the server answers as promised; the status."""
    status, reply = await server.call("POST", path, body)
    shown = (path, body if isinstance(body, bytes) else json.dumps(body), reply)
    assert status < 500 or reply.get("error", "").startswith(OLLAMAS_500), shown
    assert "internal server error" not in str(reply), shown
    if status >= 400:
        check_error(path, reply, shown)
    return status


def check_error(path: str, reply: Any, shown: object) -> None:
    """An error has the form of its API, and a text."""
    if not path.startswith("/v1/"):
        text = reply["error"]
    elif path.startswith("/v1/messages"):
        assert reply["type"] == "error", shown
        text = reply["error"]["message"]
    else:
        text = reply["error"]["message"]
    assert isinstance(text, str), shown
    assert text, shown
    assert "Traceback" not in text, shown
    assert "object at 0x" not in text, shown


async def check_history(server: RunningServer, path: str, template: str, turns: list[Turn]) -> None:
    """A conversation is answered on any template, all of it reaches the engine, and no warning is told without need.

    template: a name of TEMPLATES, or "go".
    """
    engine = server.engine
    engine.refuses = TEMPLATES.get(template)
    engine.bodies.clear()
    sent = FORMS[path](turns)
    status, reply = await server.post(path, {"model": "go-sees" if template == "go" else "sees", **sent})
    shown = (path, template, json.dumps(sent), reply)
    assert status == 200, shown
    route, got = next(entry for entry in reversed(engine.bodies) if entry[0] in ("/completion", "/v1/chat/completions"))
    text = json.dumps(got)
    assert [word for word in words(turns) if word not in text] == [], (shown, got)
    images = sum(turn.images for turn in turns)
    found = text.count('"image_url":') if route != "/completion" else _images(got)
    assert found == images, (shown, got)
    codes = {warning["code"] for warning in reply.get("warnings") or []}
    assert codes <= {"calls_as_text"}, shown


def _images(body: Any) -> int:
    prompt = body["prompt"]
    return len(prompt["multimodal_data"]) if isinstance(prompt, dict) else 0
