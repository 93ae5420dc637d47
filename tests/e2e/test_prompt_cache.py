"""What a second turn costs, how prompts are cut, continued and filled in; token scores; progress of a long prefill."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.ggufs import tiny_llama
from tests.fakes.made import made, refused

pytestmark = pytest.mark.e2e

MODEL = "turns"
OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 4}
GO = (
    '{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}{{ if not (eq .Role "assistant") }}<|im_end|>\n'
    "{{ end }}{{ end }}<|im_start|>assistant\n"
)
FILL = "{{ if .Suffix }}<|fill|>{{ .Prompt }}<|hole|>{{ .Suffix }}<|end|>{{ else }}{{ .Prompt }}{{ end }}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # as many tokens as bytes: the plain byte tokens of the tiny vocabulary survive a round trip as text
    return tiny_llama(tmp_path_factory.mktemp("turns") / "turns.gguf", context_length=8192)


@pytest.fixture(scope="module", params=["jinja", "go"])
def turns(request: pytest.FixtureRequest, server: ServerProcess, weights: Path) -> Iterator[ServerProcess]:
    fields = {"template": GO} if request.param == "go" else {}
    with made(server, MODEL, {"turns.gguf": weights}, **fields):
        yield server


def chat(server: ServerProcess, *texts: str, **more: Any) -> Any:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return server.post("/api/chat", {"model": MODEL, "messages": messages, "options": OPTIONS, **more})


def test_the_next_turn_evaluates_only_the_new_tokens(turns: ServerProcess) -> None:
    first = chat(turns, "a long question " * 40)
    second = chat(turns, "a long question " * 40, "an answer", "and then?")
    assert first["prompt_eval_count"] > 400
    new = second["prompt_eval_count"] - second["prompt_eval_cached_count"]
    assert second["prompt_eval_cached_count"] >= first["prompt_eval_count"] - 1
    assert new <= second["prompt_eval_count"] - first["prompt_eval_count"] + 1


def test_an_answer_tells_where_reading_began_when_asked(turns: ServerProcess) -> None:
    """A changed counter in the middle of a prompt is what a client sees there."""
    said = "a long question " * 30 + "at {} o'clock, and more of it " + "after that " * 20
    assert "cache" not in chat(turns, said.format("nine"))
    told = chat(turns, said.format("ten"), cache=True)["cache"]
    assert told["before"].endswith("question at ")
    assert told["after"].startswith("ten o'clock"[: len(told["after"])])
    assert 0 < told["cached_tokens"] < told["prompt_tokens"]
    body = {"model": MODEL, "prompt": "raw text", "raw": True, "cache": True, "options": OPTIONS}
    last = list(turns.stream("/api/generate", body))[-1]["cache"]
    assert last["prompt_tokens"] >= last["cached_tokens"]


def test_another_clients_system_prompt_is_not_read_again(turns: ServerProcess) -> None:
    system = {"role": "system", "content": "rules of the house " * 60}

    def ask(text: str) -> Any:
        messages = [system, {"role": "user", "content": text}]
        return turns.post("/api/chat", {"model": MODEL, "messages": messages, "options": OPTIONS})

    first, second = ask("one client asks"), ask("what the other wants to know")
    assert first["prompt_eval_count"] > 1000
    assert second["prompt_eval_cached_count"] > 0.9 * second["prompt_eval_count"]


def test_history_that_does_not_fit_is_dropped_and_told_or_refused(turns: ServerProcess) -> None:
    texts = ["word " * 100 for _ in range(9)]
    reply = chat(turns, *texts, options={**OPTIONS, "num_ctx": 1024})
    (told,) = [warning for warning in reply["warnings"] if warning["code"] == "history_truncated"]
    assert told["dropped"] >= 4
    assert told["context_window"] == 1024
    assert reply["prompt_eval_count"] <= 1024
    messages = [{"role": "user", "content": text} for text in texts]
    body = {"model": MODEL, "messages": messages}
    status, text = refused(turns, "/api/chat", {**body, "options": {"num_ctx": 1024, "on_overflow": "error"}})
    assert status == 400
    assert "1024" in text


def test_strict_refuses_what_would_be_a_warning(turns: ServerProcess) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "surprise": 1, "options": OPTIONS}
    assert turns.post("/api/chat", body)["warnings"]
    status, text = refused(turns, "/api/chat", {**body, "strict": True})
    assert status == 400
    assert "surprise" in text


def test_a_context_continues_where_it_ended(turns: ServerProcess) -> None:
    first = turns.post("/api/generate", {"model": MODEL, "prompt": "Once upon", "options": OPTIONS})
    again = {"model": MODEL, "prompt": "and then", "context": first["context"], "options": OPTIONS}
    second = turns.post("/api/generate", again)
    assert second["context"][: len(first["context"]) - 4] == first["context"][:-4]
    assert second["prompt_eval_cached_count"] >= first["prompt_eval_count"] - 1
    status, text = refused(turns, "/api/generate", {**again, "context": [10**6]})
    assert (status, "context[0]" in text) == (400, True)


def test_raw_is_the_prompt_and_nothing_else(turns: ServerProcess) -> None:
    shown = {"model": MODEL, "prompt": "<b> {{ x }}", "_debug_render_only": True}
    assert turns.post("/api/generate", {**shown, "raw": True})["_debug_info"]["rendered_template"] == "<b> {{ x }}"
    reply = turns.post("/api/generate", {"model": MODEL, "prompt": "abc", "raw": True, "options": OPTIONS})
    assert reply["prompt_eval_count"] == 3
    assert "context" not in reply


@pytest.mark.parametrize("route", ["/api/chat", "/api/generate"])
def test_logprobs_are_of_the_tokens_made(server: ServerProcess, route: str) -> None:
    turn = {"prompt": "hi"} if route == "/api/generate" else {"messages": [{"role": "user", "content": "hi"}]}
    reply = server.post(
        route, {"model": "smollm2:135m", "options": OPTIONS, "logprobs": True, "top_logprobs": 3, **turn}
    )
    assert len(reply["logprobs"]) == reply["eval_count"] <= 4
    for entry in reply["logprobs"]:
        tops = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(tops) == 3
        assert tops == sorted(tops, reverse=True)
        assert entry["logprob"] == pytest.approx(tops[0])  # greedy
        assert sum(math.exp(value) for value in tops) <= 1.0001
    assert refused(server, route, {"model": "smollm2:135m", "top_logprobs": 21, **turn})[0] == 400


def test_a_long_prefill_tells_its_progress(turns: ServerProcess) -> None:
    messages = [{"role": "user", "content": "something quite new " * 150}]
    body = {"model": MODEL, "messages": messages, "options": OPTIONS, "progress": True}
    lines = list(turns.stream("/api/chat", body))
    steps = [line["progress"] for line in lines if "progress" in line]
    prompt = [step for step in steps if step.get("phase", step.get("kind")) == "prompt"] or steps
    assert len(prompt) >= 2
    assert lines[-1]["done"] is True
    assert not any("progress" in line for line in turns.stream("/api/chat", {**body, "progress": False}))


def test_an_assistant_turn_at_the_end_is_continued(server: ServerProcess) -> None:
    template = (
        "{{ range $i, $m := .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}"
        '{{ if or (ne .Role "assistant") (ne (len (slice $.Messages $i)) 1) }}<|im_end|>\n{{ end }}{{ end }}'
    )
    messages = [{"role": "user", "content": "Name a color."}, {"role": "assistant", "content": "The color is"}]
    with made(server, "prefilled", from_="smollm2:135m", template=template):
        body = {"model": "prefilled", "messages": messages, "options": OPTIONS}
        shown = server.post("/api/chat", {**body, "_debug_render_only": True})["_debug_info"]["rendered_template"]
        assert shown.endswith("assistant\nThe color is")
        assert server.post("/api/chat", body)["message"]["content"]


def test_a_suffix_is_filled_in_by_the_models_own_template(server: ServerProcess, weights: Path) -> None:
    with made(server, "filler", {"filler.gguf": weights}, template=FILL):
        assert "insert" in server.post("/api/show", {"model": "filler"})["capabilities"]
        body = {"model": "filler", "prompt": "def f(", "suffix": "return 1", "options": OPTIONS}
        shown = server.post("/api/generate", {**body, "_debug_render_only": True})["_debug_info"]["rendered_template"]
        assert shown == "<|fill|>def f(<|hole|>return 1<|end|>"
        assert server.post("/api/generate", body)["eval_count"] > 0
        filled = server.post("/v1/completions", {"model": "filler", "prompt": "a", "suffix": "b", "max_tokens": 3})
        assert filled["usage"]["completion_tokens"] > 0
    status, text = refused(server, "/api/generate", {"model": "smollm2:135m", "prompt": "a", "suffix": "b"})
    assert (status, "does not support insert" in text) == (400, True)
