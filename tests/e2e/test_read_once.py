"""A prompt's beginning is read once for all who have it, on real engines: tokens are counted, not seconds."""

from __future__ import annotations

import itertools
import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess

pytestmark = pytest.mark.e2e

OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 2, "num_ctx": 2048}
_numbers = itertools.count()


def rules() -> str:
    """Some 300 tokens that no test has had before."""
    number = next(_numbers)
    return " ".join(f"Rule {number}{place}: be {word}." for place in range(18) for word in ("brief", "kind"))


def ask(server: ServerProcess, texts: list[str], system: str, model: str = "smollm2:135m") -> dict[str, Any]:
    roles = ("user", "assistant")
    said = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    body = {"model": model, "messages": [{"role": "system", "content": system}, *said], "options": OPTIONS}
    reply: dict[str, Any] = server.post("/api/chat", body | {"cache": True})
    return reply


def read(reply: dict[str, Any]) -> int:
    return int(reply["prompt_eval_count"]) - int(reply.get("prompt_eval_cached_count", 0))


def prompts(server: ServerProcess, model: str = "smollm2:135m") -> dict[str, float]:
    """Where the tokens of this model's prompts came from so far."""
    rows = server.request("GET", "/api/ps?verbose=1")["models"]
    [inside] = [row for row in rows if row["name"] == model]
    counted: dict[str, float] = inside["prompts"]
    return counted


@pytest.mark.parametrize("model", ["smollm2:135m", "gemma3:270m"])
def test_four_clients_at_the_same_instant_have_their_common_beginning_read_once(
    server: ServerProcess, model: str
) -> None:
    """Also where a cache cannot be cut: Gemma 3 has sliding windows."""
    system, texts = rules(), [f"{word}: what is the first rule?" for word in ("Ann asks", "Ben", "Cleo now", "Dan")]
    ask(server, ["Hello"], "Be brief.", model)
    before = prompts(server, model)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda text: ask(server, [text], system, model), texts))
    whole = max(reply["prompt_eval_count"] for reply in replies)
    assert whole > 250
    assert sum(map(read, replies)) < 1.5 * whole
    assert sorted(reply["cache"].get("source", "none") for reply in replies)[:3] == ["copied"] * 3
    after = prompts(server, model)
    assert after["copied"] - before["copied"] > 2 * whole
    assert after["copies"] - before["copies"] == 3
    again = ask(server, texts[1:2], system, model)
    assert again["message"] == replies[1]["message"]


def test_a_side_question_neither_reads_the_rules_again_nor_takes_the_conversations_slot(server: ServerProcess) -> None:
    system, talk = rules(), ["Tell me of the sea. " * 12, "The sea is wide. " * 12]
    ask(server, talk[:1], system)
    side = ask(server, ["A title for this, please."], system)
    assert side["cache"]["source"] == "copied"
    assert read(side) < 40
    main = ask(server, [*talk, "And the land?"], system)
    assert main["prompt_eval_cached_count"] >= 0.5 * main["prompt_eval_count"]
    assert read(main) < 100


@pytest.mark.parametrize("streams", [False, True])
def test_openais_and_anthropics_clients_are_told_too_when_they_ask(server: ServerProcess, streams: bool) -> None:
    body: dict[str, Any] = {"model": "smollm2:135m", "max_tokens": 2, "stream": streams}
    body["messages"] = [{"role": "user", "content": rules()}]
    ways = {
        "/v1/chat/completions": body,
        "/v1/messages": body,
        "/v1/completions": {**body, "prompt": rules()},
        "/v1/responses": {"model": body["model"], "max_output_tokens": 2, "input": rules(), "stream": streams},
    }
    for path, asked in ways.items():
        for wants in (False, True):
            told = find(answers(server, path, asked | ({"cache": True} if wants else {})))
            assert (told is not None) == wants, path
        assert told is not None
        assert 0 < told["cached_tokens"] < told["prompt_tokens"]
        assert told["source"] == "slot"


def answers(server: ServerProcess, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    if not body["stream"]:
        return [server.post(path, body)]
    data = json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        lines = [line.removeprefix(b"data: ").strip() for line in response if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


def find(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The report, wherever an API has it."""
    for event in events:
        for place in (event, event.get("response") or {}):
            if isinstance(place.get("cache"), dict):
                found: dict[str, Any] = place["cache"]
                return found
    return None
