"""Every row of the native API's error catalogue (spec native-api 2 and 11.1), as decisions.md changes it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fakes.ggufs import make_gguf
from tests.fakes.server import RunningServer
from tests.fakes.stores import add_model

from corral.store import ModelConfig
from corral.store import manifests as media

USER: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
THINK = 'invalid think value: "foo" (must be "high", "medium", "low", "max", true, or false)'
THINK_TYPE = 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'
TOP = "top_logprobs must be between 0 and 20"
HARMONY = (
    "<|start|>system<|message|>Reasoning: {{ .ThinkLevel }}<|end|>"
    "{{ range .Messages }}<|start|>{{ .Role }}<|message|>{{ .Content }}<|end|>{{ end }}<|start|>assistant"
)
SHORT = 'model "nope" not found, try pulling it first'
PROMPT: dict[str, dict[str, Any]] = {"/api/generate": {"prompt": "x"}, "/api/chat": {"messages": USER}}


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (3, 4, 5)).save(out, kind)
    return out.getvalue()


def with_image(route: str, *data: bytes) -> dict[str, Any]:
    images = [base64.b64encode(each).decode() for each in data]
    if route == "/api/chat":
        return {"messages": [{"role": "user", "content": "x", "images": images}]}
    return {"prompt": "x", "images": images}


async def expect(server: RunningServer, route: str, body: Any, status: int, error: str) -> None:
    """The same answer with and without streaming; nothing is loaded for it."""
    method = "DELETE" if route == "/api/delete" else "POST"
    for stream in (True, False):
        sent = {**body, "stream": stream} if isinstance(body, dict) else body
        assert await server.call(method, route, sent) == (status, {"error": error}), (route, sent)


# ---- 2.1 model resolution


@pytest.mark.parametrize(
    ("route", "empty", "malformed", "unknown"),
    [
        ("generate", (404, "model '' not found"), (400, "invalid model name"), (404, "model 'nope' not found")),
        ("chat", (400, "model is required"), (400, "invalid model name"), (404, "model 'nope' not found")),
        ("embed", (404, "model '' not found"), (400, "invalid model name"), (404, SHORT)),
        ("embeddings", (400, "model is required"), (400, "invalid model name"), (404, SHORT)),
        ("show", (400, "model is required"), (400, "invalid model name"), (404, "model 'nope:latest' not found")),
        ("delete", (400, "model is required"), (400, 'name "a b" is invalid'), (404, "model 'nope' not found")),
        ("copy", (400, 'source "" is invalid'), (400, 'source "a b" is invalid'), (404, 'model "nope" not found')),
        ("pull", (400, "invalid model name"), (400, "invalid model name"), None),
        ("push", (400, "model is required"), None, (404, "model 'nope' not found")),
        ("create", (400, "invalid model name"), (400, "invalid model name"), None),
    ],
)
async def test_names_that_lead_nowhere(
    server: RunningServer,
    route: str,
    empty: tuple[int, str],
    malformed: tuple[int, str] | None,
    unknown: tuple[int, str] | None,
) -> None:
    for name, answer in (("", empty), ("a b", malformed), ("nope", unknown)):
        if answer is not None:
            body: dict[str, Any] = (
                {"source": name, "destination": "x"} if route == "copy" else {"model": name, "input": "x"}
            )
            body |= {"prompt": "x", "messages": USER, "from": "go"} if route != "copy" else {}
            await expect(server, f"/api/{route}", body, *answer)
    assert server.launcher.runners == []


async def test_a_malformed_name_to_push_is_unqualified(server: RunningServer) -> None:
    await expect(server, "/api/push", {"model": "a b"}, 400, "unqualified name: registry.ollama.ai/library/a b:latest")


# ---- 2.2 parameters and capabilities


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "nope", "top_logprobs": -1}, TOP),
        ({"model": "nope", "top_logprobs": 21}, TOP),
        ({"model": "go", "think": "foo"}, THINK),
        ({"model": "go", "think": 3}, THINK_TYPE),
        ({"model": "go", "think": {}}, THINK_TYPE),
        ({"model": "go", "think": "fée"}, THINK.replace("foo", "fée")),
        ({"model": "go", "think": True}, '"go" does not support thinking'),
        ({"model": "go", "think": "low"}, '"go" does not support thinking'),
        ({"model": "go", "keep_alive": "abc"}, 'time: invalid duration "abc"'),
        ({"model": "go", "keep_alive": "5"}, 'time: missing unit in duration "5"'),
        ({"model": "go", "keep_alive": "-1"}, 'time: missing unit in duration "-1"'),
        ({"model": "go", "keep_alive": "5d"}, 'time: unknown unit "d" in duration "5d"'),
        ({"model": "go", "keep_alive": True}, "Unsupported type: 'bool'"),
        ({"model": "go", "keep_alive": []}, "Unsupported type: '[]interface {}'"),
        ({"model": "go", "keep_alive": {}}, "Unsupported type: 'map[string]interface {}'"),
        ({"model": "go", "options": {"temperature": "x"}}, 'option "temperature" must be of type float32'),
        ({"model": "go", "options": {"num_ctx": "x"}}, 'option "num_ctx" must be of type integer'),
        ({"model": "go", "options": {"use_mmap": 1}}, 'option "use_mmap" must be of type boolean'),
        ({"model": "go", "options": {"stop": 1}}, 'option "stop" must be of type array'),
        ({"model": "go", "options": {"stop": [1]}}, 'option "stop" must be of an array of strings'),
        (
            {"model": "go", "format": "xml"},
            'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object',
        ),
    ],
)
async def test_parameters_that_cannot_be(server: RunningServer, route: str, body: dict[str, Any], error: str) -> None:
    await expect(server, route, {**PROMPT[route], **body}, 400, error)
    assert server.launcher.runners == []


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_options_that_are_no_object_are_refused(server: RunningServer, route: str) -> None:
    text = 'json: field "options" must be of type object, not string'
    await expect(server, route, {"model": "go", "options": "x", **PROMPT[route]}, 400, text)


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize("wrong", [5, [1], True])
async def test_formats_that_are_neither_word_nor_schema(server: RunningServer, route: str, wrong: Any) -> None:
    status, answer = await server.post(route, {"model": "go", "format": wrong, **PROMPT[route]})
    assert status == 400
    assert "format" in answer["error"]


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_a_format_is_looked_at_when_the_model_is_known(server: RunningServer, route: str) -> None:
    body = {"model": "nope", "format": "xml", **PROMPT[route]}
    await expect(server, route, body, 404, "model 'nope' not found")


NULLS: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"prompt": "x", "context": [None], "_debug_render_only": True}),
    ("/api/chat", {"messages": [None, *USER]}),
    ("/api/chat", {"messages": [{"role": "assistant", "tool_calls": [None, {"function": None}]}, *USER]}),
    ("/api/chat", {"messages": USER, "tools": [None], "generic_tools": True}),
    ("/api/chat", {"messages": USER, "tools": [{"function": None}], "generic_tools": True}),
]


@pytest.mark.parametrize(("route", "body"), NULLS)
async def test_nulls_in_lists_are_empty_entries(server: RunningServer, route: str, body: dict[str, Any]) -> None:
    assert (await server.post(route, {"model": "go", **body}))[0] == 200


PROPERTY = "tools[0].function.parameters.properties"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"type": 1}, 'json: field "tools[0].function.parameters.type" must be of type string, not integer'),
        ({"required": "x"}, 'json: field "tools[0].function.parameters.required" must be of type array, not string'),
        ({"properties": []}, f'json: field "{PROPERTY}" must be of type object, not array'),
        ({"properties": {"a": 1}}, f'json: field "{PROPERTY}[...]" must be of type boolean or object, not integer'),
        (
            {"properties": {"a": {"type": 1}}},
            f'json: field "{PROPERTY}[...].type" must be of type string or array, not integer',
        ),
        (
            {"properties": {"a": {"anyOf": [{"enum": "x"}]}}},
            f'json: field "{PROPERTY}[...].anyOf[0].enum" must be of type array, not string',
        ),
    ],
)
async def test_schemas_of_tools_have_the_types_of_a_schema(
    server: RunningServer, parameters: dict[str, Any], error: str
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    await expect(server, "/api/chat", {"model": "nope", "messages": USER, "tools": [tool]}, 400, error)


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_what_is_accepted_although_it_is_odd(server: RunningServer, route: str) -> None:
    for odd in ({"think": False}, {"keep_alive": "0"}, {"options": {"mirostat": 1}}, {"options": None}):
        status, answer = await server.post(route, {"model": "go", **PROMPT[route], **odd})
        assert (status, answer["done"]) == (200, True), answer


@pytest.mark.parametrize("more", [{"template": "{{ .Prompt }}"}, {"system": "s"}, {"context": [11]}])
async def test_raw_stands_alone(server: RunningServer, more: dict[str, Any]) -> None:
    body = {"model": "go", "prompt": "x", "raw": True, **more}
    await expect(server, "/api/generate", body, 400, "raw mode does not support template, system, or context")


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_tools_and_embedding_models(server: RunningServer, route: str) -> None:
    word = route.removeprefix("/api/")
    for body in ({"model": "vectors"}, {"model": "vectors", **PROMPT[route]}):
        await expect(server, route, body, 400, f'"vectors" does not support {word}')
    if word == "chat":
        text = "registry.ollama.ai/library/go:latest does not support tools"
        await expect(server, route, {"model": "go", "messages": USER, "tools": [TOOL]}, 400, text)


async def test_a_suffix_needs_a_template_with_a_place_for_it(server: RunningServer) -> None:
    text = "registry.ollama.ai/library/go:latest does not support insert"
    await expect(server, "/api/generate", {"model": "go", "prompt": "x", "suffix": "y"}, 400, text)


async def test_images_that_are_none(server: RunningServer) -> None:
    for place, text in ((0, "@@"), (4, "AAAA@@@@")):
        error = f"illegal base64 data at input byte {place}"
        await expect(server, "/api/generate", {"model": "go", "prompt": "x", "images": [text]}, 400, error)
        messages = [{"role": "user", "content": "x", "images": [text]}]
        await expect(server, "/api/chat", {"model": "go", "messages": messages}, 400, error)


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"hello", "it is no PNG, JPEG, WebP, GIF or BMP image"),
        (picture("WEBP")[:40], "it cannot be decoded: could not create decoder object"),
    ],
)
async def test_images_that_cannot_be_decoded(
    server: RunningServer, tmp_path: Path, route: str, image: bytes, why: str
) -> None:
    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    server.add("see", jinja="{{ messages }}", extra={media.PROJECTOR: projector})
    error = f"image 1 cannot be used: {why}"
    await expect(server, route, {"model": "see", **with_image(route, image)}, 400, error)
    assert server.launcher.runners == []


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat", "/api/embed"])
async def test_a_model_that_the_engine_does_not_know(server: RunningServer, tmp_path: Path, route: str) -> None:
    weights = make_gguf(tmp_path / "solar.gguf", "solar", {}, {"w": (2, 2)})
    add_model(server.deps.store, "solar-pro", weights)
    error = (
        "model 'solar-pro:latest' cannot run here: its architecture, \"solar\", is not one that this server's engine "
        "knows; a newer Corral may know it; else look for another build of the model, as a GGUF for llama.cpp"
    )
    await expect(server, route, {"model": "solar-pro", "input": "x", **PROMPT.get(route, {})}, 400, error)
    assert server.launcher.runners == []


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_what_cannot_run_is_unloaded_without_an_error(server: RunningServer, tmp_path: Path, route: str) -> None:
    add_model(server.deps.store, "solar-pro", make_gguf(tmp_path / "solar.gguf", "solar", {}, {"w": (2, 2)}))
    body = {"model": "solar-pro", "keep_alive": 0, "stream": False}
    status, answer = await server.call("POST", route, body)
    assert (status, answer["done_reason"]) == (200, "unload")


async def test_mllama_is_refused_with_models_that_see(server: RunningServer, tmp_path: Path) -> None:
    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    config = ModelConfig("gguf", "mllama", ("llama", "mllama"))
    server.add("old", jinja="{{ messages }}", extra={media.PROJECTOR: projector}, config=config)
    status, answer = await server.post("/api/chat", {"model": "old", **PROMPT["/api/chat"]})
    assert status == 400
    assert '"mllama", is not one that this server\'s engine knows' in answer["error"]
    assert "gemma3" in answer["error"]


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat", "/api/embed"])
async def test_models_that_make_images(server: RunningServer, route: str) -> None:
    server.add("paints", config=ModelConfig("safetensors", "flux", ("flux",), capabilities=("image",)))
    body = {"model": "paints", "input": "x", **PROMPT.get(route, {})}
    await expect(server, route, body, 400, "image generation models are not currently supported")


@pytest.mark.parametrize("model", ["go", "jinja"])
async def test_images_for_a_model_without_eyes(server: RunningServer, model: str) -> None:
    error = "Multimodal data provided, but model does not support multimodal requests."
    for route in PROMPT:
        await expect(server, route, {"model": model, **with_image(route, picture("PNG"))}, 400, error)
    assert server.launcher.runners == []


async def test_templates_of_a_request_name_line_and_column(server: RunningServer) -> None:
    body = {"model": "go", "prompt": "x", "template": "a\n{{ .Prompt"}
    await expect(server, "/api/generate", body, 400, "template: :2:10: unclosed action")


async def test_an_unusable_schema_is_a_bad_request_with_a_plain_text(server: RunningServer) -> None:
    server.engine.error = (400, "failed to parse grammar", "invalid_request_error")
    body = {"model": "go", "prompt": "x", "format": {"type": "nonsense"}}
    status, answer = await server.post("/api/generate", body)
    assert status == 400
    assert not answer["error"].startswith("{")


async def test_arguments_of_a_call_must_be_an_object(server: RunningServer) -> None:
    call: dict[str, Any] = {"function": {"name": "f", "arguments": '{"a": 1}'}}
    messages = [*USER, {"role": "assistant", "content": "", "tool_calls": [call]}]
    status, answer = await server.post("/api/chat", {"model": "go", "messages": messages})
    assert status == 400
    assert "arguments" in answer["error"]


@pytest.mark.parametrize("wrong", [5, False, {"a": 1}, ["a", 5]])
async def test_embed_inputs_that_are_no_text(server: RunningServer, wrong: Any) -> None:
    body = {"model": "vectors", "input": wrong}
    assert await server.call("POST", "/api/embed", body) == (400, {"error": "invalid input type"})


@pytest.mark.parametrize("words", ["input is too large to process", "physical batch size exceeded", "context length"])
async def test_engine_texts_about_long_inputs_have_one_wording(server: RunningServer, words: str) -> None:
    await server.call("POST", "/api/embed", {"model": "vectors"})
    server.engine.error = (500, words, "server_error")
    error = {"error": "the input length exceeds the context length"}
    assert await server.call("POST", "/api/embed", {"model": "vectors", "input": "x", "truncate": False}) == (
        400,
        error,
    )


@pytest.mark.parametrize(
    ("route", "model"),
    [("/api/generate", "go"), ("/api/generate", "jinja"), ("/api/chat", "go"), ("/api/chat", "jinja")],
)
@pytest.mark.parametrize("status", [400, 429, 503])
async def test_engine_errors_keep_their_status_and_show_their_inner_text(
    server: RunningServer, route: str, model: str, status: int
) -> None:
    await server.call("POST", route, {"model": model})
    server.engine.error = (status, "the engine's words", "some_error")
    for stream in (True, False):
        body = {"model": model, "stream": stream, **PROMPT[route]}
        assert await server.call("POST", route, body) == (status, {"error": "the engine's words"})


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize("think", [None, True, "low", False])
async def test_a_format_on_gpt_oss_begins_behind_its_thinking(server: RunningServer, route: str, think: Any) -> None:
    server.add("oss", texts={"template": HARMONY}, config=ModelConfig("gguf", "gptoss", ("gptoss",)))
    server.engine.reply = (
        '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{"a": 1}'
    )
    status, answer = await server.post(route, {"model": "oss", "format": "json", "think": think, **PROMPT[route]})
    made = answer.get("message", answer)
    assert (status, made.get("content", made.get("response")), made["thinking"]) == (200, '{"a": 1}', "Hm.")
    told = "oss:latest always thinks; the request not to was ignored"
    assert [warning["message"] for warning in answer.get("warnings", [])] == ([told] if think is False else [])
    sent = next(body for path, body in server.engine.bodies if path == "/completion")
    start = sent["grammar"].splitlines()[1]
    assert re.fullmatch(r'start: \("<\|channel\|>analysis<\|message\|>" r\d+ T\d+\)\? r\d+', start)
    assert {"<|start|>", "<|end|>", "<|message|>", "<|channel|>"} < set(sent["preserved_tokens"])


# ---- 2.3 scheduling and runtime; the full queue is in test_native_manage.py, hosts and origins in test_guards_*


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_an_overlong_prompt_without_shift(server: RunningServer, route: str) -> None:
    body: dict[str, Any] = {"model": "go", "shift": False, "options": {"num_ctx": 32}}
    long: dict[str, Any] = {
        "/api/generate": {"prompt": "w " * 99},
        "/api/chat": {"messages": [{"role": "user", "content": "w " * 99}]},
    }
    text = (
        "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust "
        "the context length in settings, or use a model with a longer context length"
    )
    await expect(server, route, {**body, **long[route]}, 400, text)


async def test_an_overlong_prompt_of_a_templated_chat(server: RunningServer) -> None:
    text = "request (99 tokens) exceeds the available context size (32 tokens), try increasing it"
    server.engine.error = (400, text, "exceed_context_size_error")
    await expect(server, "/api/chat", {"model": "jinja", "messages": USER, "truncate": False}, 400, text)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_a_request_that_is_canceled_while_loading(server: RunningServer, route: str, stream: bool) -> None:
    server.engine.load_gate = asyncio.Event()
    body = {"model": "go", "stream": stream, **PROMPT[route]}
    asking = asyncio.create_task(server.call("POST", route, body))
    await server.call("DELETE", f"/api/requests/{await loading(server)}")
    assert await asking == (499, {"error": "request canceled"})
    await given_up(server)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_a_client_that_leaves_while_loading(
    server: RunningServer, route: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server.engine.load_gate = asyncio.Event()
    body = {"model": "go", "stream": stream, **PROMPT[route]}
    with caplog.at_level(logging.DEBUG, "corral.server.stream"):
        asking = asyncio.create_task(server.call("POST", route, body))
        await loading(server)
        asking.cancel()
        await given_up(server)
    assert f"POST {route}: the client left before its answer had ended" in caplog.messages


async def loading(server: RunningServer) -> str:
    """The id of the request whose model is being loaded, as soon as it is."""
    async with asyncio.timeout(10):
        while not server.launcher.runners or not server.launcher.runners[0].started:
            await asyncio.sleep(0.005)
    (row,) = server.deps.scheduler.requests()
    assert row.state == "loading"
    return row.id


async def given_up(server: RunningServer) -> None:
    """Until the load has been stopped and nobody waits."""
    async with asyncio.timeout(10):
        await server.until_idle()
        await server.launcher.runners[0].closed.wait()
        while server.deps.scheduler.loaded():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize("model", ["go", "jinja"])
async def test_an_engine_event_over_its_bound(server: RunningServer, route: str, model: str) -> None:
    error = {"error": "llama-server response stream event exceeded 8 MB limit"}
    server.engine.reply = "x" * (8 * 2**20 + 1)
    body = {"model": model, **PROMPT[route]}
    assert await server.post(route, body) == (500, error)
    server.engine.reply = "a " + server.engine.reply
    *_, last = await server.lines(route, body)
    assert last == error


@pytest.mark.parametrize("route", ["/api/generate", "/api/chat"])
async def test_a_runner_that_dies(server: RunningServer, route: str) -> None:
    server.engine.die_after = 0
    status, answer = await server.post(route, {"model": "go", **PROMPT[route]})
    assert status == 500
    assert answer["error"].startswith("an error was encountered while running the model: ")
    server.engine.die_after = 1
    lines = await server.lines(route, {"model": "go", **PROMPT[route]})
    assert lines[-1]["error"].startswith("an error was encountered while running the model: ")
    assert list(lines[-1]) == ["error"]


async def test_a_runner_that_exits_while_loading(server: RunningServer) -> None:
    server.engine.load_error = "bad magic"
    text = "llama-server process has terminated: exit status 1: bad magic"
    assert await server.post("/api/generate", {"model": "go", "prompt": "x"}) == (500, {"error": text})


async def test_a_hung_runner_is_told(server: RunningServer) -> None:
    server.engine.hang_after = 0
    asking = asyncio.create_task(server.post("/api/generate", {"model": "go", "prompt": "x"}))
    async with asyncio.timeout(10):
        while not server.engine.active:
            await asyncio.sleep(0.005)
        await server.launcher.runners[0].hang_detected()
        status, answer = await asking
    assert status == 500
    assert answer["error"] == "the model runner made no progress for 30 s and was restarted"


# ---- 11.1 exact bodies


@pytest.mark.parametrize("body", ["null", "{}"])
async def test_a_body_of_nothing(server: RunningServer, body: str) -> None:
    for route, status, text in (
        ("/api/chat", 400, '{"error":"model is required"}'),
        ("/api/generate", 404, '{"error":"model \'\' not found"}'),
    ):
        async with server.http.post(server.url + route, data=body) as answer:
            assert (answer.status, await answer.text()) == (status, text)


async def test_errors_are_compact_json_with_a_charset(server: RunningServer) -> None:
    body = {"model": "go", "think": True, "messages": USER}
    async with server.http.post(server.url + "/api/chat", json=body) as answer:
        assert await answer.text() == '{"error":"\\"go\\" does not support thinking"}'
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_version_and_create_have_their_bodies(server: RunningServer) -> None:
    async with server.http.get(server.url + "/api/version") as answer:
        assert list(json.loads(await answer.text())) == ["version"]
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    async with server.http.post(
        server.url + "/api/create", json={"model": "made", "from": "go", "stream": False}
    ) as answer:
        assert (answer.status, await answer.text()) == (200, '{"status":"success"}')
        assert answer.content_type == "application/json"


async def test_show_lists_parameters_by_name(server: RunningServer) -> None:
    parameters = {"seed": 42, "top_p": 0.9, "stop": ["foo", "bar"]}
    await server.post("/api/create", {"model": "tuned", "from": "go", "parameters": parameters})
    _, shown = await server.call("POST", "/api/show", {"model": "tuned"})
    lines = [" ".join(line.split()) for line in shown["parameters"].splitlines()]
    assert lines == ["seed 42", 'stop "foo"', 'stop "bar"', "top_p 0.9"]
