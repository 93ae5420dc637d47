"""Library models whose configs name renderers and parsers, on a real server: prompts, grammars, images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, start_server
from tests.fakes.library import GOLDEN, KitModel

pytestmark = pytest.mark.e2e

MODELS = ("gemma4", "glm-4.7-flash", "ministral-3", "olmo3")
USER = [{"role": "user", "content": "Hi"}]
OPTIONS = {"temperature": 0, "num_ctx": 1024, "num_predict": 40}
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
SET = {
    "type": "function",
    "function": {
        "name": "set",
        "parameters": {
            "type": "object",
            "properties": {
                "color": {"enum": ["dark red", "blue"]},
                "level": {"type": "integer", "minimum": 0, "maximum": 9},
                "on": {"type": "boolean"},
            },
            "required": ["color", "on"],
        },
    },
}
CALLERS = ("gemma4", "glm-4.7-flash")


@pytest.fixture(scope="module")
def library_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose store holds the models as a pull leaves them."""
    folder = tmp_path_factory.mktemp("library")
    for name in MODELS:
        _install(GOLDEN / "models" / name, folder / "models", name)
    running = start_server(folder)
    try:
        yield running
    finally:
        running.stop()


def _install(source: Path, store: Path, name: str) -> None:
    blobs, manifest = store / "blobs", store / "manifests/registry.ollama.ai/library" / name / "latest"
    blobs.mkdir(parents=True, exist_ok=True)
    manifest.parent.mkdir(parents=True)
    for blob in source.glob("sha256-*"):
        shutil.copyfile(blob, blobs / blob.name)
    shutil.copyfile(source / "manifest.json", manifest)


@pytest.mark.parametrize("name", MODELS)
def test_prompts_are_those_of_ollamas_server(library_server: ServerProcess, name: str) -> None:
    model = KitModel(GOLDEN, name)
    reference = json.loads((GOLDEN / "references" / f"{name}.json").read_text())
    recorded = {render["name"]: render for render in reference["api"]["renders"] if render["status"] == 200}
    checked = 0
    for asked in reference["render_requests"]:
        if asked["name"] in recorded:
            text = json.dumps(asked["request"]).replace('"@square64.png"', json.dumps(model.medium("square64.png")))
            body = {**json.loads(text), "model": name, "_debug_render_only": True}
            shown = library_server.post("/api/chat", body)["_debug_info"]["rendered_template"]
            assert shown == recorded[asked["name"]]["prompt"], asked["name"]
            checked += 1
    assert checked


@pytest.mark.parametrize("name", MODELS)
def test_a_format_holds_the_answer_behind_whatever_the_model_writes_first(
    library_server: ServerProcess, name: str
) -> None:
    body: dict[str, Any] = {"model": name, "messages": USER, "options": OPTIONS, "format": SCHEMA, "think": False}
    reply = library_server.post("/api/chat", body)
    if name == "olmo3":  # its prompt always begins the thinking, and random weights never end it
        assert (reply["message"]["content"], reply["done_reason"]) == ("", "length")
    else:
        assert set(json.loads(reply["message"]["content"])) == {"a"}


@pytest.mark.parametrize("name", CALLERS)
def test_a_call_that_is_asked_for_is_made_and_held_to_its_schema(library_server: ServerProcess, name: str) -> None:
    """Whatever random weights would rather say."""
    body = {"model": name, "messages": USER, "options": {**OPTIONS, "num_predict": 200}, "tools": [NOW, SET]}
    choice = {"type": "function", "function": {"name": "set"}}
    for asked, called in (("required", {"now", "set"}), (choice, {"set"})):
        reply = library_server.post("/api/chat", {**body, "tool_choice": asked, "think": False})
        cut = {"tool_call_unparsed"} if reply["done_reason"] == "length" else set()
        assert {warning["code"] for warning in reply.get("warnings", ())} <= {"tool_schema_reduced", *cut}
        calls = [call["function"] for call in reply["message"]["tool_calls"]]
        assert calls
        for call in calls:
            assert call["name"] in called
            if call["name"] == "set":
                assert {"color", "on"} <= call["arguments"].keys() <= {"color", "level", "on"}
                assert call["arguments"]["color"] in ("dark red", "blue")
                assert type(call["arguments"]["on"]) is bool
                assert call["arguments"].get("level", 0) in range(10)
            else:
                assert call["arguments"] == {}


def test_pictures_keep_their_places(library_server: ServerProcess) -> None:
    model = KitModel(GOLDEN, "gemma4")
    one, two = model.medium("square64.png"), model.medium("wide96x40.png")

    def answer(*images: str) -> str:
        message = {"role": "user", "content": "First [img] then [img] done", "images": list(images)}
        body = {"model": "gemma4", "messages": [message], "options": {**OPTIONS, "num_predict": 8}, "think": False}
        reply = library_server.post("/api/chat", body)
        return str(reply["message"]["content"])

    assert len({answer(one, two), answer(two, one), answer(one, one), answer(two, two)}) >= 3
