"""A long prompt beside a running answer, on a real engine: read in pieces, counted once, found by the next turn."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess

pytestmark = pytest.mark.e2e

MODEL = "smollm2:135m"
COUNT = "Count: " + ", ".join(str(number) for number in range(1, 40)) + ","
OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 4, "num_ctx": 4096}


def asked(path: str, turns: list[str]) -> dict[str, Any]:
    if path == "/api/generate":
        return {"model": MODEL, "prompt": " ".join(turns), "raw": True, "options": OPTIONS}
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return {"model": MODEL, "messages": messages, "options": OPTIONS}


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_a_long_prompt_beside_an_answer_is_read_once_and_told_as_one(own_server: ServerProcess, path: str) -> None:
    server = own_server
    long = " ".join(f"{path[5]}{number % 89}" for number in range(450))  # some 1,100 tokens
    replies: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []

    def other() -> None:
        for event in server.stream(path, {**asked(path, [long]), "progress": True}):
            (reports if "progress" in event else replies).append(event)

    thread = threading.Thread(target=other)
    answer = {"model": MODEL, "prompt": COUNT, "raw": True, "options": {**OPTIONS, "num_predict": 160, "stop": []}}
    events = []
    for event in server.stream("/api/generate", answer):
        events.append(event)
        if len(events) == 10:
            thread.start()
    thread.join()
    assert events[-1]["eval_count"] > 60
    last = replies[-1]
    assert last["prompt_eval_count"] > 900
    assert last.get("prompt_eval_cached_count", 0) < 20
    assert last["prompt_eval_duration"] > last["eval_duration"]
    read = [report["progress"]["processed"] for report in reports if report["progress"].get("total")]
    assert read == sorted(read)
    assert min(b - a for a, b in pairwise(read) if b > a) < 64  # a piece is less than a full step
    again = server.post(path, asked(path, [long, "ok", "And then?"]))
    assert again["prompt_eval_count"] - again["prompt_eval_cached_count"] < 40
    assert not [line for line in server.log if "is read whole" in line]
