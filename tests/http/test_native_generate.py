"""POST /api/generate through HTTP, scheduler and client, down to a fake engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.fakes.server import CHATML, RunningServer

METRICS = {
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
}


async def test_a_stream_gives_a_line_a_piece_and_one_last_line(server: RunningServer) -> None:
    lines = await server.lines("/api/generate", {"model": "go", "prompt": "hi"})
    assert [line["response"] for line in lines] == ["Hello", " from", " the", " fake", " runner.", ""]
    assert all(set(line) == {"model", "created_at", "response", "done"} for line in lines[:-1])
    assert set(lines[-1]) == {"model", "created_at", "response", "done", "done_reason", "context"} | METRICS
    assert list(lines[-1])[:6] == ["model", "created_at", "response", "done", "done_reason", "context"]
    assert [line["done"] for line in lines] == [False] * 5 + [True]


async def test_without_streaming_the_reply_has_the_whole_text(server: RunningServer) -> None:
    status, reply = await server.post("/api/generate", {"model": "go", "prompt": "hi"})
    assert status == 200
    assert reply["response"] == "Hello from the fake runner."
    assert (reply["model"], reply["done"], reply["done_reason"], reply["eval_count"]) == ("go", True, "stop", 5)


async def test_the_go_template_makes_the_prompt(server: RunningServer) -> None:
    await server.post("/api/generate", {"model": "go", "prompt": "hi", "system": "be kind"})
    body = _bodies(server, "/completion")[-1]
    assert body["prompt"] == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_the_engine_template_makes_the_prompt_of_a_jinja_model(server: RunningServer) -> None:
    await server.post("/api/generate", {"model": "jinja", "prompt": "hi"})
    assert _bodies(server, "/apply-template")[-1]["messages"] == [{"role": "user", "content": "hi"}]
    assert _bodies(server, "/completion")[-1]["prompt"] == "<|user|>\nhi<|end|>\n<|assistant|>\n"


async def test_raw_sends_the_prompt_as_it_is_and_returns_no_context(server: RunningServer) -> None:
    _, reply = await server.post("/api/generate", {"model": "go", "prompt": "as is", "raw": True})
    assert _bodies(server, "/completion")[-1]["prompt"] == "as is"
    assert "context" not in reply


async def test_context_goes_on_where_it_ended(server: RunningServer) -> None:
    _, first = await server.post("/api/generate", {"model": "go", "prompt": "one"})
    await server.post("/api/generate", {"model": "go", "prompt": "two", "context": first["context"]})
    prompt = _bodies(server, "/completion")[-1]["prompt"]
    assert prompt.startswith("<|im_start|>user\none")
    assert "Hello from the fake runner." in prompt
    assert prompt.endswith("two<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"model": "go", "prompt": "x", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        ({"model": "", "prompt": "x"}, 404, "model '' not found"),
        ({"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ({"model": "a b", "prompt": "x"}, 400, "invalid model name"),
        ({"model": "x:cloud"}, 403, "ollama cloud is disabled: remote model is unavailable"),
        ({"model": "vectors", "prompt": "x"}, 400, '"vectors" does not support generate'),
        ({"model": "go", "prompt": "x", "think": True}, 400, '"go" does not support thinking'),
        (
            {"model": "go", "prompt": "x", "suffix": "y"},
            400,
            "registry.ollama.ai/library/go:latest does not support insert",
        ),
        (
            {"model": "go", "prompt": "x", "raw": True, "system": "s"},
            400,
            "raw mode does not support template, system, or context",
        ),
        (
            {"model": "go", "prompt": "x", "options": {"temperature": "hot"}},
            400,
            'option "temperature" must be of type float32',
        ),
        (
            {"model": "go", "prompt": "x", "format": "xml"},
            400,
            'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object',
        ),
        ({"model": "go", "prompt": "x", "images": ["@@"]}, 400, "illegal base64 data at input byte 0"),
    ],
)
async def test_what_cannot_be_done_is_said_with_its_status(
    server: RunningServer, body: dict[str, Any], status: int, error: str
) -> None:
    assert await server.post("/api/generate", body) == (status, {"error": error})
    assert server.launcher.runners == []


async def test_an_unknown_token_id_in_context_is_named(server: RunningServer) -> None:
    server.add("small", texts={"template": CHATML}, metadata={"tokenizer.ggml.tokens": ["a", "b"]})
    status, reply = await server.post("/api/generate", {"model": "small", "prompt": "x", "context": [1, 7]})
    assert status == 400
    assert reply["error"].startswith("context[1]: 7 is no token")


async def test_an_empty_prompt_loads_and_keep_alive_0_unloads(server: RunningServer) -> None:
    status, reply = await server.call("POST", "/api/generate", {"model": "go"})
    assert (status, reply["done_reason"], reply["response"]) == (200, "load", "")
    assert set(reply) == {"model", "created_at", "response", "done", "done_reason"}
    assert len((await server.call("GET", "/api/ps"))[1]["models"]) == 1
    _, reply = await server.call("POST", "/api/generate", {"model": "go", "keep_alive": "0s", "stream": True})
    assert reply["done_reason"] == "unload"
    async with asyncio.timeout(30):
        await server.launcher.runners[0].closed.wait()


async def test_unloading_never_loads(server: RunningServer) -> None:
    status, reply = await server.call("POST", "/api/generate", {"model": "go", "keep_alive": 0})
    assert (status, reply["done_reason"]) == (200, "unload")
    assert server.launcher.runners == []


async def test_a_model_deleted_while_loaded_can_be_unloaded(server: RunningServer) -> None:
    await server.call("POST", "/api/generate", {"model": "go"})
    assert (await server.call("DELETE", "/api/delete", {"model": "go"}))[0] == 200
    status, reply = await server.call("POST", "/api/generate", {"model": "go", "keep_alive": 0})
    assert (status, reply["done_reason"]) == (200, "unload")
    async with asyncio.timeout(30):
        await server.launcher.runners[0].closed.wait()


async def test_num_predict_0_makes_no_tokens(server: RunningServer) -> None:
    lines = await server.lines("/api/generate", {"model": "go", "prompt": "hi", "options": {"num_predict": 0}})
    assert [(line["response"], line["done"]) for line in lines] == [("", True)]
    assert lines[0]["done_reason"] == "length"
    assert "eval_count" not in lines[0]


async def test_a_bad_template_in_the_request_is_a_bad_request(server: RunningServer) -> None:
    status, reply = await server.post("/api/generate", {"model": "go", "prompt": "x", "template": "{{ .Prompt"})
    assert status == 400
    assert "unclosed action" in reply["error"]


async def test_a_client_that_leaves_stops_the_engine(server: RunningServer) -> None:
    server.engine.gate = asyncio.Event()
    async with server.http.post(server.url + "/api/generate", json={"model": "go", "prompt": "x"}) as answer:
        await answer.content.readline()
        answer.close()
    await server.until_idle()
    async with asyncio.timeout(30):
        while not server.engine.cancelled:
            await asyncio.sleep(0.005)


async def test_a_client_that_leaves_before_the_first_token_stops_the_engine(server: RunningServer) -> None:
    server.engine.hang_after = 0
    task = asyncio.create_task(server.post("/api/generate", {"model": "go", "prompt": "x"}))
    async with asyncio.timeout(30):
        while not server.engine.active:
            await asyncio.sleep(0.005)
    task.cancel()
    await server.until_idle()
    async with asyncio.timeout(30):
        while not server.engine.cancelled:
            await asyncio.sleep(0.005)


async def test_an_engine_error_before_the_first_token_keeps_its_status(server: RunningServer) -> None:
    await server.call("POST", "/api/generate", {"model": "go"})
    server.engine.error = (429, "too many", "busy")
    for stream in (True, False):
        body = {"model": "go", "prompt": "x", "raw": True, "stream": stream}
        assert await server.call("POST", "/api/generate", body) == (429, {"error": "too many"})


async def test_an_engine_error_in_the_stream_is_its_last_line(server: RunningServer) -> None:
    server.engine.stream_error = (2, "boom")
    lines = await server.lines("/api/generate", {"model": "go", "prompt": "x"})
    assert [line.get("response") for line in lines] == ["Hello", " from", None]
    assert lines[-1] == {"error": "boom"}


async def test_a_dead_runner_ends_the_stream_with_an_error_and_the_next_request_gets_another(
    server: RunningServer,
) -> None:
    server.engine.die_after = 2
    lines = await server.lines("/api/generate", {"model": "go", "prompt": "x"})
    assert lines[-1]["error"].startswith("an error was encountered while running the model: ")
    server.engine.die_after = None
    status, _ = await server.post("/api/generate", {"model": "go", "prompt": "x"})
    assert status == 200
    assert len(server.launcher.runners) == 2


async def test_a_failed_load_is_a_500_with_its_reason(server: RunningServer) -> None:
    server.engine.load_error = "cannot load this"
    status, reply = await server.call("POST", "/api/generate", {"model": "go", "prompt": "x"})
    assert status == 500
    assert reply["error"].endswith("cannot load this")


async def test_a_repeating_model_is_stopped_and_it_is_said(server: RunningServer) -> None:
    server.engine.reply = " ha" * 60
    lines = await server.lines("/api/generate", {"model": "go", "prompt": "x"})
    assert len(lines) < 40
    assert lines[-1]["done_reason"] == "stop"
    assert lines[-1]["warnings"][0]["code"] == "repetition_stopped"


async def test_repetition_is_legal_under_a_constraint(server: RunningServer) -> None:
    server.engine.reply = " ha" * 60
    lines = await server.lines("/api/generate", {"model": "go", "prompt": "x", "format": "json"})
    assert len(lines) == 61


async def test_unknown_parameters_are_warned_of_and_strict_refuses_them(server: RunningServer) -> None:
    body = {"model": "go", "prompt": "x", "foo": 1, "options": {"bar": 2}}
    _, reply = await server.post("/api/generate", body)
    assert [warning["code"] for warning in reply["warnings"]] == ["parameter_unknown", "option_unknown"]
    status, reply = await server.post("/api/generate", {**body, "strict": True})
    assert status == 400
    assert "foo" in reply["error"]


async def test_warnings_are_counted_in_a_header(server: RunningServer) -> None:
    body = {"model": "go", "prompt": "x", "foo": 1, "stream": False}
    async with server.http.post(server.url + "/api/generate", json=body) as answer:
        assert answer.headers["X-Corral-Warnings"] == "1"
    async with server.http.post(server.url + "/api/generate", json={**body, "model": "jinja", "foo": 1}) as answer:
        assert answer.headers["X-Corral-Warnings"] == "1"
    del body["foo"]
    async with server.http.post(server.url + "/api/generate", json=body) as answer:
        assert "X-Corral-Warnings" not in answer.headers


async def test_a_prompt_over_the_window_is_cut_and_it_is_said(server: RunningServer) -> None:
    body = {"model": "go", "prompt": "word " * 100, "options": {"num_ctx": 64}}
    _, reply = await server.post("/api/generate", body)
    assert [warning["code"] for warning in reply["warnings"]] == ["prompt_truncated"]
    assert len(_bodies(server, "/completion")[-1]["prompt"]) < 64


@pytest.mark.parametrize("options", [{"num_ctx": 64, "on_overflow": "error"}])
async def test_overflow_is_an_error_with_both_numbers_when_asked(
    server: RunningServer, options: dict[str, Any]
) -> None:
    status, reply = await server.post("/api/generate", {"model": "go", "prompt": "word " * 100, "options": options})
    assert status == 400
    assert "64" in reply["error"]
    assert "10" in reply["error"]


async def test_without_shift_an_overlong_prompt_is_refused(server: RunningServer) -> None:
    body = {"model": "go", "prompt": "word " * 100, "options": {"num_ctx": 64}, "shift": False}
    status, reply = await server.post("/api/generate", body)
    assert status == 400
    assert reply["error"].startswith("the prompt is longer than the context length currently available to the model")


async def test_options_reach_the_engine_with_its_names(server: RunningServer) -> None:
    options = {"temperature": 0, "seed": 5, "num_predict": 7, "stop": "x", "repeat_last_n": -1, "num_ctx": 512}
    await server.post("/api/generate", {"model": "go", "prompt": "x", "options": options})
    body = _bodies(server, "/completion")[-1]
    assert {name: body[name] for name in ("temperature", "seed", "n_predict", "stop", "repeat_last_n")} == {
        "temperature": 0.0,
        "seed": 5,
        "n_predict": 7,
        "stop": ["x"],
        "repeat_last_n": 512,
    }
    assert (body["top_k"], body["top_p"], body["repeat_penalty"], body["n_keep"]) == (40, 0.9, 1.0, 4)


async def test_logprobs_come_with_their_token(server: RunningServer) -> None:
    body = {"model": "go", "prompt": "x", "logprobs": True, "top_logprobs": 1}
    lines = await server.lines("/api/generate", body)
    entry = lines[0]["logprobs"][0]
    assert entry == {
        "token": "Hello",
        "logprob": -0.5,
        "bytes": list(b"Hello"),
        "top_logprobs": [{"token": "Hello", "logprob": -0.5, "bytes": list(b"Hello")}],
    }
    _, reply = await server.post("/api/generate", body)
    assert len(reply["logprobs"]) == 5


async def test_progress_is_told_before_the_first_token_when_asked(server: RunningServer) -> None:
    lines = await server.lines("/api/generate", {"model": "go", "prompt": "x", "progress": True})
    stages = [line["progress"]["stage"] for line in lines if "progress" in line]
    assert stages[0] in {"queued", "loading"}
    assert stages[-1] == "prompt"
    assert "".join(line["response"] for line in lines) == "Hello from the fake runner."


async def test_render_only_shows_the_prompt_and_runs_nothing(server: RunningServer) -> None:
    status, reply = await server.call(
        "POST", "/api/generate", {"model": "go", "prompt": "hi", "_debug_render_only": True}
    )
    assert status == 200
    assert reply["_debug_info"] == {"rendered_template": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"}
    assert reply["done"] is False
    assert _bodies(server, "/completion") == []


async def test_names_match_whatever_their_case_and_the_reply_echoes_what_was_sent(server: RunningServer) -> None:
    _, reply = await server.post("/api/generate", {"model": " GO ", "prompt": "hi"})
    assert reply["model"] == " GO "
    assert reply["done"]


def _bodies(server: RunningServer, path: str) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(body)) for sent, body in server.engine.bodies if sent == path]
