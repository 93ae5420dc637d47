"""Management routes: version, tags, ps, show, copy, delete, blobs, create, requests, metrics."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
import yarl
from tests.fakes.ggufs import make_gguf
from tests.fakes.library import GOLDEN, KitModel
from tests.fakes.registry import FakeRegistry
from tests.fakes.server import RunningServer, running_server

from corral.server.translation import STATUS
from corral.store import derived
from corral.store import manifests as media

CLOUD = "ollama cloud is disabled: "


async def test_the_fixed_answers_are_word_for_word(server: RunningServer) -> None:
    assert await server.call("GET", "/") == (200, "Ollama is running")
    assert (await server.call("HEAD", "/"))[0] == 200
    _, version = await server.call("GET", "/api/version")
    assert set(version) == {"version"}
    assert await server.call("GET", "/api/status") == (200, {"cloud": {"disabled": True, "source": "env"}})
    assert (await server.call("POST", "/api/me"))[0] == 401
    assert (await server.call("POST", "/api/signout"))[0] == 401
    for name in ("web_search", "web_fetch"):
        text = CLOUD + name.replace("_", " ") + " is unavailable"
        assert await server.call("POST", f"/api/experimental/{name}", {}) == (403, {"error": text})
    assert await server.call("GET", "/api/experimental/model-recommendations") == (200, {"recommendations": []})


async def test_unknown_paths_wrong_methods_and_slashes(server: RunningServer) -> None:
    assert await server.call("GET", "/api/nope") == (404, "404 page not found")
    async with server.http.get(server.url + "/api/generate") as answer:
        assert (answer.status, await answer.text()) == (405, "405 method not allowed")
        assert answer.headers["Allow"] == "POST"
        assert answer.content_type == "text/plain"
    assert (await server.call("HEAD", "/api/ps"))[0] == 405
    assert await server.call("POST", "/api/tags/") == (404, "404 page not found")


@pytest.mark.parametrize(
    ("method", "path", "status", "location", "body"),
    [
        ("GET", "/api/tags/", 301, "/api/tags", '<a href="/api/tags">Moved Permanently</a>.\n\n'),
        ("POST", "/api/show/", 307, "/api/show", ""),
        ("GET", "/api//tags", 307, "/api/tags", '<a href="/api/tags">Temporary Redirect</a>.\n\n'),
        ("POST", "//api/chat?a=b", 307, "/api/chat?a=b", ""),
        ("POST", "/api/x/../chat", 307, "/api/chat", ""),
        ("GET", "//evil.example/", 307, "/evil.example/", '<a href="/evil.example/">Temporary Redirect</a>.\n\n'),
    ],
)
async def test_paths_that_mean_another_lead_there(
    server: RunningServer, method: str, path: str, status: int, location: str, body: str
) -> None:
    url = yarl.URL(server.url + path, encoded=True)
    async with server.http.request(method, url, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (status, location)
        assert await answer.text() == body


async def test_an_encoded_slash_separates_nothing(server: RunningServer) -> None:
    url = yarl.URL(server.url + "/api/blobs/..%2f..%2fetc", encoded=True)
    async with server.http.head(url, allow_redirects=False) as answer:
        assert (answer.status, answer.content_type) == (404, "text/plain")


async def test_tags_list_every_model_with_its_details(server: RunningServer) -> None:
    _, listed = await server.call("GET", "/api/tags")
    rows = {row["name"]: row for row in listed["models"]}
    assert set(rows) == {"go:latest", "jinja:latest", "vectors:latest"}
    row = rows["go:latest"]
    assert list(row) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
    assert len(row["digest"]) == 64
    assert row["details"]["context_length"] == 4096
    assert rows["vectors:latest"]["capabilities"] == ["embedding"]


async def test_ps_lists_what_is_loaded(server: RunningServer) -> None:
    server.engine.context_window = 512
    assert await server.call("GET", "/api/ps") == (200, {"models": []})
    await server.call("POST", "/api/generate", {"model": "go", "options": {"num_ctx": 512}})
    _, listed = await server.call("GET", "/api/ps")
    row = listed["models"][0]
    keys = ["name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"]
    assert list(row) == keys
    assert (row["name"], row["context_length"], row["details"]["parent_model"]) == ("go:latest", 512, "")
    _, verbose = await server.call("GET", "/api/ps?verbose=1")
    assert verbose["models"][0]["slots"] >= 1


async def test_show_tells_everything_about_a_model(server: RunningServer) -> None:
    server.add(
        "full",
        texts={"template": "{{ .Prompt }}", "system": "S", "license": "L"},
        parameters={"temperature": 0.5, "stop": ["a", "b"]},
        metadata={"tokenizer.ggml.tokens": ["x", "y"]},
    )
    _, shown = await server.call("POST", "/api/show", {"name": "full"})
    assert list(shown) == [
        "license",
        "modelfile",
        "parameters",
        "template",
        "system",
        "details",
        "model_info",
        "tensors",
        "capabilities",
        "modified_at",
    ]
    assert shown["parameters"].split("\n")[-1].split() == ["temperature", "0.5"]
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None
    assert shown["model_info"]["general.parameter_count"] == 4
    assert f"FROM {server.deps.store.root}/blobs/sha256-" in shown["modelfile"]
    _, shown = await server.call("POST", "/api/show", {"model": "full", "verbose": True, "system": "T"})
    assert shown["model_info"]["tokenizer.ggml.tokens"] == ["x", "y"]
    assert "SYSTEM T" in shown["modelfile"]
    assert shown["system"] == "T"


async def test_show_counts_the_parameters_of_a_projector(server: RunningServer, tmp_path: Path) -> None:
    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (3, 4)})
    server.add("see", extra={media.PROJECTOR: projector})
    _, shown = await server.post("/api/show", {"model": "see"})
    info = {"clip.has_vision_encoder": True, "general.architecture": "clip", "general.parameter_count": 12}
    assert shown["projector_info"] == info


async def test_show_says_what_is_wrong_with_a_name(server: RunningServer) -> None:
    for body, status, error in (
        ({}, 400, "model is required"),
        ({"model": "a b"}, 400, "invalid model name"),
        ({"model": "nope"}, 404, "model 'nope:latest' not found"),
        ({"model": "x:cloud"}, 403, CLOUD + "remote model details are unavailable"),
        ({"model": ":cloud"}, 400, "invalid model name"),
    ):
        assert await server.call("POST", "/api/show", body) == (status, {"error": error})


async def test_copilot_gets_the_name_it_asked_for(server: RunningServer) -> None:
    headers = {"User-Agent": "GitHubCopilotChat/1.0"}
    _, shown = await server.call("POST", "/api/show", {"model": "go"}, headers=headers)
    assert shown["model_info"]["general.basename"] == "go"


async def test_copy_and_delete(server: RunningServer) -> None:
    assert await server.call("POST", "/api/copy", {"source": "go", "destination": "you/two:v1"}) == (200, "")
    assert await server.call("POST", "/api/copy", {"source": "nope", "destination": "nope"}) == (200, "")
    error = {"error": 'model "nope" not found'}
    assert await server.call("POST", "/api/copy", {"source": "nope", "destination": "x"}) == (404, error)
    assert await server.call("POST", "/api/copy", {"source": "a b"}) == (400, {"error": 'source "a b" is invalid'})
    error = {"error": 'destination "" is invalid'}
    assert await server.call("POST", "/api/copy", {"source": "go"}) == (400, error)
    assert await server.call("DELETE", "/api/delete", {"name": "you/two:v1"}) == (200, "")
    error = {"error": "model 'you/two:v1' not found"}
    assert await server.call("DELETE", "/api/delete", {"model": "you/two:v1"}) == (404, error)
    assert await server.call("DELETE", "/api/delete", {"model": "a b"}) == (400, {"error": 'name "a b" is invalid'})
    assert await server.call("DELETE", "/api/delete", {"model": "\0é"}) == (400, {"error": r'name "\x00é" is invalid'})
    assert await server.call("DELETE", "/api/delete", {}) == (400, {"error": "model is required"})


async def test_delete_removes_cloud_models_too(server: RunningServer) -> None:
    for name in ("x:cloud", "x:1b-cloud", "x:1b:cloud"):
        error = {"error": f"model '{name}' not found"}
        assert await server.call("DELETE", "/api/delete", {"model": name}) == (404, error)
    assert await server.call("DELETE", "/api/delete", {"model": ":cloud"}) == (
        400,
        {"error": 'name ":cloud" is invalid'},
    )
    for stored, sent in (("x:1b-cloud", "x:1b:cloud"), ("x:cloud", "x:cloud")):
        assert (await server.call("POST", "/api/copy", {"source": "go", "destination": stored}))[0] == 200
        assert await server.call("DELETE", "/api/delete", {"model": sent}) == (200, "")


async def test_a_blob_is_stored_under_its_digest_only(server: RunningServer) -> None:
    data = b"x" * 900_000
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    path = f"/api/blobs/{digest}"
    assert (await server.call("HEAD", path))[0] == 404
    assert await server.call("POST", path, data) == (201, "")
    assert (await server.call("HEAD", path))[0] == 200
    assert await server.call("POST", path, b"not even read") == (200, "")
    wrong = "sha256:" + "0" * 64
    error = {"error": f'digest mismatch, expected "{wrong}", got "{digest}"'}
    assert await server.call("POST", f"/api/blobs/{wrong}", data) == (400, error)
    for bad in ("nope", digest[:-1]):
        assert await server.call("POST", f"/api/blobs/{bad}", data) == (400, {"error": "invalid digest format"})
    assert not list((server.deps.store.root / "blobs").glob("corral-tmp-*"))


async def test_half_an_upload_leaves_nothing(server: RunningServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /api/blobs/sha256:{'1' * 64} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n"
    writer.write(head.encode() + b"x" * 2_000_000)
    await writer.drain()
    blobs = server.deps.store.root / "blobs"
    async with asyncio.timeout(30):
        while not list(blobs.glob("corral-tmp-*")):
            await asyncio.sleep(0.005)
    writer.close()
    async with asyncio.timeout(30):
        while list(blobs.glob("corral-tmp-*")):
            await asyncio.sleep(0.005)
    assert reader is not None


@pytest.mark.parametrize("name", [" made", "made ", "made\n"])
async def test_create_takes_no_blanks_off_a_name(server: RunningServer, name: str) -> None:
    body = {"model": name, "from": "go", "stream": False}
    assert await server.call("POST", "/api/create", body) == (400, {"error": "invalid model name"})


async def test_create_streams_progress_or_gives_the_last_line(server: RunningServer) -> None:
    lines = await server.lines("/api/create", {"model": "made", "from": "go", "system": "S"})
    assert lines[-1] == {"status": "success"}
    assert lines[-2] == {"status": "writing manifest"}
    assert await server.post("/api/create", {"name": "made2", "modelfile": "FROM go\nPARAMETER stop x"}) == (
        200,
        {"status": "success"},
    )
    _, shown = await server.call("POST", "/api/show", {"model": "made2"})
    assert shown["parameters"].split() == ["stop", '"x"']


@pytest.mark.parametrize("stream", [True, False])
async def test_a_create_that_cannot_be_keeps_its_status(server: RunningServer, stream: bool) -> None:
    for body, error in (
        ({"model": "a b", "from": "go"}, "invalid model name"),
        ({"model": "x"}, "neither 'from' or 'files' was specified"),
        ({"name": "x", "modelfile": ""}, "path or modelfile are required"),
        ({"model": "x", "from": "go", "license": [1]}, "license must be a string or a list of strings"),
        ({"model": "x", "path": "/etc/passwd"}, "path is not supported"),
    ):
        status, reply = await server.call("POST", "/api/create", {**body, "stream": stream})
        assert status == 400
        assert error in reply["error"]


async def test_pull_and_push_check_the_name_first(server: RunningServer) -> None:
    assert await server.post("/api/pull", {}) == (400, {"error": "invalid model name"})
    assert await server.post("/api/push", {}) == (400, {"error": "model is required"})
    assert await server.post("/api/push", {"name": "nope"}) == (404, {"error": "model 'nope' not found"})


async def test_a_model_that_the_registry_does_not_have(server: RunningServer) -> None:
    error = {"error": "pull model manifest: file does not exist"}
    async with FakeRegistry().serve() as registry:
        body = {"model": f"{registry.host}/library/nope", "insecure": True}
        assert await server.post("/api/pull", body) == (500, error)
        lines = await server.lines("/api/pull", body)
    assert lines == [{"status": "pulling manifest"}, error]


async def pull_kit_model(server: RunningServer, name: str = "gemma3-vision-q4") -> list[dict[str, Any]]:
    """The lines of a pull of a kit model."""
    weights = KitModel(GOLDEN, name).weights.read_bytes()
    async with FakeRegistry().serve() as registry:
        registry.add_model("library/kit", "latest", {media.MODEL: weights})
        return await server.lines("/api/pull", {"model": f"{registry.host}/library/kit", "insecure": True})


async def test_pull_ends_with_the_translation_of_what_it_brought(server: RunningServer) -> None:
    lines = await pull_kit_model(server)
    steps = [line for line in lines if line["status"] == STATUS]
    assert steps
    assert [line["status"] for line in lines[-len(steps) - 2 :]] == [
        "writing manifest",
        *[STATUS] * len(steps),
        "success",
    ]
    total = steps[0]["total"]
    assert {step["total"] for step in steps} == {total}
    assert steps[-1]["completed"] == total
    assert sum(found.path.stat().st_size for found in server.deps.store.derived.files()) == total


async def test_pull_without_room_for_the_translation_succeeds_and_says_so(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "free_bytes", lambda _: 0)
    lines = await pull_kit_model(server)
    assert lines[-1]["status"] == "success"
    warning = lines[-1]["warnings"][-1]
    assert warning["code"] == "translation_postponed"
    assert "not enough space: need " in warning["message"]


async def test_pull_and_show_warn_of_a_model_that_cannot_run_here(server: RunningServer, tmp_path: Path) -> None:
    weights = make_gguf(tmp_path / "s.gguf", "solar", {}, {"w": (2, 2)}).read_bytes()
    async with FakeRegistry().serve() as registry:
        registry.add_model("library/solar", "latest", {media.MODEL: weights})
        reference = f"{registry.host}/library/solar"
        lines = await server.lines("/api/pull", {"model": reference, "insecure": True})
    _, shown = await server.post("/api/show", {"model": reference})
    [warning] = shown["warnings"]
    assert lines[-1]["warnings"][-1] == warning
    assert warning["code"] == "cannot_run"
    assert '"solar"' in warning["message"]
    assert "capabilities" not in shown


async def test_requests_in_flight_can_be_seen_and_ended(server: RunningServer) -> None:
    server.engine.gate = asyncio.Event()
    running = asyncio.create_task(server.call("POST", "/api/generate", {"model": "go", "prompt": "x"}))
    async with asyncio.timeout(30):
        while not server.engine.active:
            await asyncio.sleep(0.005)
    _, listed = await server.call("GET", "/api/requests")
    row = listed["requests"][0]
    assert (row["model"], row["state"], row["route"]) == ("go:latest", "running", "/api/generate")
    assert (await server.call("DELETE", f"/api/requests/{row['id']}"))[0] == 200
    _, text = await running
    assert text.strip().endswith('{"error":"request canceled"}')
    assert (await server.call("DELETE", "/api/requests/nope"))[0] == 404


async def test_metrics_count_runs_tokens_and_warnings(server: RunningServer) -> None:
    await server.post("/api/generate", {"model": "go", "prompt": "x", "foo": 1})
    _, text = await server.call("GET", "/metrics")
    assert 'corral_runs_total{kind="generate",model="go:latest",reason="stop"} 1.0' in text
    assert 'corral_tokens_total{kind="eval",model="go:latest"} 5.0' in text
    assert 'corral_notices_total{code="parameter_unknown"} 1.0' in text
    assert "corral_models_loaded 1.0" in text


async def test_the_log_level_can_be_changed_while_it_runs(server: RunningServer) -> None:
    import logging

    before = logging.getLogger("corral").level
    try:
        assert await server.call("PUT", "/api/log-level", {"level": "debug"}) == (200, {"level": "debug"})
        assert await server.call("GET", "/api/log-level") == (200, {"level": "debug"})
        assert (await server.call("PUT", "/api/log-level", {"level": "loud"}))[0] == 400
    finally:
        logging.getLogger("corral").setLevel(before)


async def test_a_full_queue_is_a_503_with_retry_after(tmp_path: Path) -> None:
    async with asyncio.timeout(20), running_server(tmp_path, max_queue=1, num_parallel=1) as server:
        server.engine.slots = 1
        server.add("go", texts={"template": "{{ .Prompt }}"})
        server.engine.gate = asyncio.Event()
        body = {"model": "go", "prompt": "x"}
        tasks = [asyncio.create_task(server.call("POST", "/api/generate", body))]
        async with asyncio.timeout(30):
            while not server.engine.active:
                await asyncio.sleep(0.005)
            tasks.append(asyncio.create_task(server.call("POST", "/api/generate", body)))
            while len(server.deps.scheduler.requests()) < 2:
                await asyncio.sleep(0.005)
        async with server.http.post(server.url + "/api/generate", json=body) as answer:
            reply = await answer.json(content_type=None)
            assert (answer.status, reply["error"]) == (
                503,
                "server busy, please try again.  maximum pending requests exceeded",
            )
            assert int(answer.headers["Retry-After"]) >= 1
        server.engine.gate.set()
        assert [status for status, _ in await asyncio.gather(*tasks)] == [200, 200]
