"""Creating models over HTTP on a real server: the guide's form, the round trip through show, a kill in the middle."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, start_server

pytestmark = pytest.mark.e2e


def layers(server: ServerProcess, name: str) -> list[tuple[str, str]]:
    path = server.models / "manifests/registry.ollama.ai/library" / name / "latest"
    manifest: dict[str, Any] = json.loads(path.read_text())
    return [(layer["mediaType"], layer["digest"]) for layer in manifest["layers"]]


def test_the_guides_modelfile_makes_a_model_that_answers(own_server: ServerProcess) -> None:
    text = 'FROM smollm2:135m\nSYSTEM "You are Mario."\nPARAMETER temperature 0.4\nPARAMETER num_predict 4\n'
    lines = list(own_server.stream("/api/create", {"name": "mario", "modelfile": text}))
    assert [line["status"] for line in lines[-2:]] == ["writing manifest", "success"]
    shown = own_server.post("/api/show", {"name": "mario"})
    assert shown["system"] == "You are Mario."
    assert "temperature                    0.4" in shown["parameters"].split("\n")
    answer = own_server.post("/api/generate", {"model": "mario", "prompt": "Who are you?"})
    assert (answer["done"], answer["eval_count"]) == (True, 4)


def test_what_show_prints_makes_the_same_model_again(own_server: ServerProcess) -> None:
    body = {
        "model": "first",
        "from": "smollm2:135m",
        "system": 'Say "hi".\nTwice.',
        "template": "{{ .System }}\n{{ .Prompt }}",
        "parameters": {"stop": [" lead", "<|x|>"], "temperature": 0.25, "num_ctx": 1048576},
        "license": ["MIT\n"],
        "messages": [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c"}],
    }
    assert own_server.post("/api/create", body) == {"status": "success"}
    text = own_server.post("/api/show", {"model": "first"})["modelfile"]
    blob = next(line for line in text.split("\n") if line.startswith("FROM "))
    digest = Path(blob.removeprefix("FROM ")).name.replace("-", ":", 1)
    text = text.replace(blob, f"FROM @{digest}")
    assert own_server.post("/api/create", {"model": "second", "modelfile": text}) == {"status": "success"}
    assert sorted(layers(own_server, "second")) == sorted(layers(own_server, "first"))


def test_a_server_killed_while_it_quantizes_leaves_nothing_after_its_next_start(own_server: ServerProcess) -> None:
    before = {path.name for path in (own_server.models / "blobs").iterdir()}
    lines = own_server.stream("/api/create", {"model": "small", "from": "all-minilm", "quantize": "q4_K_M"})
    assert next(lines)["status"] == "quantizing F16 model to Q4_K_M"
    own_server.stop(signal.SIGKILL)
    again = start_server(own_server.home.parent / "again", models=own_server.models)
    try:
        names = [model["name"] for model in again.request("GET", "/api/tags")["models"]]
        assert "small:latest" not in names
        left = {path.name for path in (again.models / "blobs").iterdir()} - before
        assert not any(name.startswith("corral-") for name in left), left
        made = again.post("/api/create", {"model": "small", "from": "all-minilm", "quantize": "q4_K_M"})
        assert made == {"status": "success"}
    finally:
        again.stop()
