"""Models in Ollama's own layouts from pull to rm: translated once, seen with, mended, and gone with their blob."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess, start_server
from tests.e2e.test_registry_docker import running_registry
from tests.fakes.ggufs import tiny_llama
from tests.fakes.library import GOLDEN, KitModel, add_kit_model
from tests.fakes.made import made
from tests.fakes.registry import FakeRegistry
from tests.fakes.stores import add_model
from tests.fakes.visions import picture, tiny_projector

from corral.gguf import read_header
from corral.store import ModelStore
from corral.store import manifests as media
from corral.translate import write
from corral.translate.view import View

pytestmark = pytest.mark.e2e

NAME = "gemma3-vision-q4"
RED, BLUE = picture(color=(200, 30, 30)), picture(color=(10, 10, 250))
ASK = {"temperature": 0, "seed": 1, "num_predict": 4}


def look(server: ServerProcess, image: bytes, name: str = NAME) -> list[float]:
    """Log probabilities of an answer about an image."""
    message = {"role": "user", "content": "what is it?", "images": [base64.b64encode(image).decode()]}
    body = {"model": name, "messages": [message], "options": ASK, "logprobs": True}
    return [entry["logprob"] for entry in server.post("/api/chat", body)["logprobs"]]


def stages(server: ServerProcess, name: str = NAME) -> list[str]:
    """What a waiting request is told of before its answer."""
    body = {"model": name, "prompt": "hi", "options": ASK, "progress": True}
    return [line["progress"]["stage"] for line in server.stream("/api/generate", body) if "progress" in line]


def unload(server: ServerProcess, name: str = NAME) -> None:
    server.post("/api/generate", {"model": name, "keep_alive": 0})


def files_below(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []


@contextmanager
def serving(folder: Path, **env: str) -> Iterator[ServerProcess]:
    """A server below `folder`; a store that is there already is its store."""
    server = start_server(folder, env=env)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for the tests that need no more than a fresh model."""
    with serving(tmp_path_factory.mktemp("library")) as server:
        yield server


@pytest.fixture
def in_place(running: ServerProcess) -> Iterator[ServerProcess]:
    """A server whose store has the model as Ollama leaves it; nothing of it is there afterwards."""
    store = ModelStore(running.models)
    name = add_kit_model(store, NAME)
    yield running
    unload(running)
    if store.manifests.path(name).exists():
        running.request("DELETE", "/api/delete", {"model": NAME})
    assert files_below(running.models / "derived") == []


def test_run_with_an_image_goes_through_from_a_real_registry(tmp_path: Path) -> None:
    """Pushed by one machine to docker-registry; on another a question about a picture is the first that it hears of."""
    image = tmp_path / "blue.png"
    image.write_bytes(BLUE)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    with running_registry(tmp_path) as registry, serving(theirs) as server:
        reference = f"{registry}/me/gemma3"
        add_kit_model(ModelStore(server.models), NAME)
        server.post("/api/create", {"model": reference, "from": NAME, "parameters": {"num_predict": 4}})
        status, _, err = asyncio.run(corral(server, "push", "--insecure", reference))
        assert status == 0, err
        server.stop()
        with serving(ours) as other:
            status, out, err = asyncio.run(corral(other, "show", reference, "--remote", "--insecure"))
            assert status == 0, err
            assert "runs here, sees images" in out
            status, out, err = asyncio.run(corral(other, "run", "--insecure", reference, f"what is in {image} ?"))
            assert status == 0, err
            assert "translating for the engine:" in err
            assert "Added image" in out + err
            assert out.strip()
            assert look(other, RED, reference) != look(other, BLUE, reference)


@asynccontextmanager
async def published() -> AsyncIterator[str]:
    """A registry that has the model; its reference."""
    folder = GOLDEN / "models" / NAME
    manifest = json.loads((folder / "manifest.json").read_text())
    params = json.dumps({"num_predict": 4, "stop": ["<end_of_turn>"]}).encode()
    digest = "sha256:" + hashlib.sha256(params).hexdigest()
    manifest["layers"] = [layer for layer in manifest["layers"] if layer["mediaType"] != media.PARAMS]
    manifest["layers"].append({"mediaType": media.PARAMS, "digest": digest, "size": len(params)})
    async with FakeRegistry(blobs={digest: params}).serve() as registry:
        for path in folder.glob("sha256-*"):
            registry.blobs["sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()] = path.read_bytes()
        registry.manifests["library/gemma3", "latest"] = json.dumps(manifest).encode()
        yield f"{registry.host}/library/gemma3"


async def corral(server: ServerProcess, *words: str) -> tuple[int, str, str]:
    """A command of the CLI against a server: status, output, errors."""
    env = {
        **os.environ,
        "CORRAL_HOST": server.url,
        "CORRAL_HOME": str(server.home),
        "CORRAL_MODELS": str(server.models),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corral", *words),
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_run_with_an_image_pulls_translates_and_answers_in_one_go(tmp_path: Path) -> None:
    image = tmp_path / "red.png"
    image.write_bytes(RED)
    with serving(tmp_path) as server:
        async with published() as reference:
            status, out, err = await corral(server, "run", "--insecure", reference, f"what is in {image} ?")
        assert status == 0, err
        assert out.strip()
        lines = err.splitlines()
        translating = next(
            number for number, line in enumerate(lines) if line.startswith("translating for the engine:")
        )
        assert lines.index("writing manifest") < translating < lines.index("success")
        assert "Added image" in out + err
        assert [path.name for path in files_below(server.models / "derived")] == ["projector.gguf", "text.gguf"]
        assert await asyncio.to_thread(look, server, RED, reference) != await asyncio.to_thread(
            look, server, BLUE, reference
        )


def test_a_store_of_ollamas_in_place_is_translated_before_the_first_load_only(in_place: ServerProcess) -> None:
    blobs = {path: path.read_bytes() for path in files_below(in_place.models / "blobs")}
    assert "translating" in stages(in_place)
    made = files_below(in_place.models / "derived")
    assert [path.name for path in made] == ["projector.gguf", "text.gguf"]
    times = [path.stat().st_mtime_ns for path in made]
    unload(in_place)
    assert "translating" not in stages(in_place)
    assert [path.stat().st_mtime_ns for path in made] == times
    assert look(in_place, RED) != look(in_place, BLUE)
    assert {path: path.read_bytes() for path in files_below(in_place.models / "blobs")} == blobs


def test_ps_and_show_speak_of_the_model_not_of_its_translation(in_place: ServerProcess) -> None:
    look(in_place, RED)
    [row] = in_place.request("GET", "/api/ps")["models"]
    shown = in_place.post("/api/show", {"model": NAME})
    assert row["name"] == f"{NAME}:latest"
    assert row["details"]["family"] == "gemma3"
    assert shown["capabilities"] == ["completion", "vision"]
    assert "derived" not in json.dumps(shown)


def test_rm_takes_the_translation_with_the_last_name(in_place: ServerProcess) -> None:
    look(in_place, RED)
    in_place.request("POST", "/api/copy", {"source": NAME, "destination": "second"})
    in_place.request("DELETE", "/api/delete", {"model": NAME})
    assert len(files_below(in_place.models / "derived")) == 2
    assert look(in_place, RED, "second")
    in_place.request("DELETE", "/api/delete", {"model": "second"})
    assert files_below(in_place.models / "derived") == []


async def test_fsck_mends_a_translation_that_was_damaged(in_place: ServerProcess) -> None:
    seen = await asyncio.to_thread(look, in_place, RED)
    unload(in_place)
    text = files_below(in_place.models / "derived")[1]
    data = bytearray(text.read_bytes())
    data[-1000] ^= 0xFF
    text.write_bytes(data)
    status, out, _ = await corral(in_place, "fsck")
    assert status == 1
    assert f"translated file is not what its blob gives: {text.relative_to(in_place.models)} ({NAME}:latest)" in out
    status, out, _ = await corral(in_place, "fsck", "--repair")
    assert "; deleted" in out
    assert (await corral(in_place, "fsck"))[0] == 0
    assert await asyncio.to_thread(look, in_place, RED) == seen


def without_type(source: Path, target: Path) -> Path:
    """A projector as llava's first ones were: nothing says of what kind it is."""
    view = View(read_header(source))
    view.drop("clip.projector_type")
    with target.open("wb") as file:
        write(source, view.finish(), file)
    return target


def test_an_old_projector_layer_without_a_type_is_translated_beside_weights_that_need_nothing(
    running: ServerProcess, tmp_path: Path
) -> None:
    store = ModelStore(running.models)
    projector = without_type(tiny_projector(tmp_path / "p.gguf"), tmp_path / "old.gguf")
    weights = tiny_llama(tmp_path / "m.gguf", context_length=4096)
    name = add_model(store, "llava", weights, extra={media.PROJECTOR: projector})
    try:
        assert look(running, RED, "llava") != look(running, BLUE, "llava")
        [made] = files_below(running.models / "derived")
        assert made.name == "projector.gguf"
        assert made.parent.parent.name == store.load(name).projectors[0].name
    finally:
        unload(running, "llava")
        running.request("DELETE", "/api/delete", {"model": "llava"})
    assert files_below(running.models / "derived") == []


def test_create_translates_what_it_makes(running: ServerProcess) -> None:
    with made(running, "mine", {"m.gguf": KitModel(GOLDEN, NAME).weights}) as name:
        assert len(files_below(running.models / "derived")) == 2
        assert "translating" not in stages(running, name)
    assert files_below(running.models / "derived") == []


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A file system in memory; skips where one cannot be mounted."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a tmpfs takes root")
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_store_that_cannot_be_written_is_translated_below_corrals_home(tmp_path: Path) -> None:
    with mounted(tmp_path / "models", "size=16m") as models:
        add_kit_model(ModelStore(models), NAME)
        subprocess.run(["mount", "-o", "remount,ro", str(models)], check=True)
        with serving(tmp_path) as server:
            assert look(server, RED) != look(server, BLUE)
            assert not (models / "derived").exists()
            assert len(files_below(server.home / "derived")) == 2


def test_without_room_on_a_disk_the_translation_is_in_memory_as_long_as_the_runner(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        add_kit_model(ModelStore(disk / "models"), NAME)
        (tmp_path / "models").symlink_to(disk / "models")
        with serving(tmp_path, CORRAL_HOME=str(disk / "home")) as server:
            assert look(server, RED) != look(server, BLUE)
            [row] = server.request("GET", "/api/ps?verbose=1")["models"]
            assert memory_files(row["pid"])
            assert not memory_files(server.pid)
            assert row["sandbox"]["missing"] == {}
            assert files_below(disk / "models" / "derived") == []
            assert any("is translated into memory" in line for line in server.log)


def memory_files(pid: int) -> list[str]:
    """The memory files of Corral that a process has mapped or holds open."""
    mapped = Path(f"/proc/{pid}/maps").read_text().splitlines()
    held = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return [line for line in (*mapped, *held) if "memfd:corral-translated" in line]
