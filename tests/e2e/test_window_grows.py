"""A prompt that does not fit where nobody named a window: the model is loaded anew with a larger one, or it is told."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.ggufs import tiny_llama
from tests.fakes.made import made

pytestmark = pytest.mark.e2e

OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 4}
LONG = " ".join(f"{number} bottles" for number in range(500))  # 5,900 tokens; the default window has 4,096


@pytest.fixture(scope="module")
def model(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tiny_llama(tmp_path_factory.mktemp("grows") / "m.gguf", context_length=32768)
    with made(server, "grows", {"m.gguf": path}) as name:
        yield name


@pytest.fixture(autouse=True)
def fresh(server: ServerProcess, model: str) -> None:
    unload(server)


def unload(server: ServerProcess) -> None:
    server.post("/api/generate", {"model": "grows", "keep_alive": 0})
    deadline = time.monotonic() + 20
    while any(row["name"].startswith("grows") for row in server.request("GET", "/api/ps")["models"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def window(server: ServerProcess) -> int:
    """As `ps` shows it."""
    (row,) = [row for row in server.request("GET", "/api/ps")["models"] if row["name"].startswith("grows")]
    return int(row["context_length"])


def loads(server: ServerProcess) -> int:
    return sum("corral.sched.scheduler: loading" in line for line in server.log)


def chat(server: ServerProcess, *texts: str, **more: Any) -> Any:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return server.post("/api/chat", {"model": "grows", "messages": messages, "options": OPTIONS, **more})


def test_a_long_prompt_is_answered_whole_and_its_conversation_stays(server: ServerProcess, model: str) -> None:
    chat(server, "hello there " * 20)
    before = loads(server)
    first = chat(server, LONG)
    assert "warnings" not in first
    assert first["prompt_eval_count"] > 5000
    assert window(server) == 16384
    assert loads(server) == before + 1
    again = chat(server, LONG, "Well.", "And then?")
    assert again["prompt_eval_count"] - again["prompt_eval_cached_count"] < 100
    kept = chat(server, "hello there " * 20, "Well.", "And then?")
    assert kept["prompt_eval_cached_count"] > 80
    assert loads(server) == before + 1


def test_the_next_load_has_the_window_at_once(server: ServerProcess, model: str) -> None:
    chat(server, LONG)
    unload(server)
    before = loads(server)
    assert "warnings" not in chat(server, LONG)
    assert loads(server) == before + 1
    assert window(server) == 16384


def test_a_plain_completion_grows_too(server: ServerProcess, model: str) -> None:
    reply = server.post("/api/generate", {"model": model, "prompt": LONG, "raw": True, "options": OPTIONS})
    assert "warnings" not in reply
    assert reply["prompt_eval_count"] > 5000


def test_a_window_that_somebody_named_stays(server: ServerProcess, model: str) -> None:
    reply = server.post("/api/generate", {"model": model, "prompt": LONG, "options": {**OPTIONS, "num_ctx": 4096}})
    assert {warning["code"] for warning in reply["warnings"]} == {"prompt_truncated"}
    assert window(server) == 4096


def test_what_the_model_was_not_trained_for_is_told(server: ServerProcess, model: str) -> None:
    body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": LONG * 7}]}
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.post("/v1/messages", body)
    with caught.value as error:
        message = json.loads(error.read())["error"]["message"]
    assert error.code == 400
    assert message.startswith("prompt is too long: ")
