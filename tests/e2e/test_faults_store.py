"""A store under attack: a full disk, blobs that vanish, weights that are damaged."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, start_server
from tests.fakes.ggufs import tiny_llama
from tests.fakes.processes import until
from tests.fakes.registry import FakeRegistry

from corral.names import Digest
from corral.store import ModelStore
from corral.store import manifests as media
from corral.store.care import fsck

pytestmark = pytest.mark.e2e

Serve = Callable[..., ServerProcess]
MIB = 2**20
TINY = {"model": "tiny", "prompt": "hello", "options": {"num_predict": 4, "seed": 1}}
DISK_MIB = 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB; skips where one cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs takes root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def on_small_disk(small_disk: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server whose store, with `tiny` in it, lies on the small disk."""
    server = start_server(tmp_path, models=small_disk / "models")
    try:
        create(server, "tiny", tiny_llama(tmp_path / "tiny.gguf").read_bytes())
        yield server
    finally:
        server.stop(9)


def upload(server: ServerProcess, data: bytes) -> str:
    """Upload a blob; its digest."""
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    request = urllib.request.Request(f"{server.url}/api/blobs/{digest}", data, method="POST")
    with urllib.request.urlopen(request, timeout=60):
        return digest


def create(server: ServerProcess, name: str, data: bytes) -> Any:
    """Upload a GGUF and make a model of it."""
    return server.post("/api/create", {"model": name, "files": {"m.gguf": upload(server, data)}})


def refused(work: Callable[[], Any]) -> tuple[int, str]:
    """Status and error text of what must fail."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        work()
    with caught.value as error:
        return error.code, json.load(error)["error"]


def assert_intact(server: ServerProcess) -> None:
    """`tiny` works, it is all there is, and nothing lies around that no model uses."""
    assert server.post("/api/generate", TINY)["eval_count"] == 4
    assert [row["name"] for row in server.request("GET", "/api/tags")["models"]] == ["tiny:latest"]
    assert fsck(ModelStore(server.models)).findings == ()


def test_an_upload_that_cannot_fit_is_refused_before_and_on_the_way(on_small_disk: ServerProcess) -> None:
    data = os.urandom(DISK_MIB * MIB)
    status, text = refused(lambda: upload(on_small_disk, data))
    assert status == 507
    assert text.startswith(f"not enough space: need {len(data)} bytes, free ")
    digest = "sha256:" + hashlib.sha256(data).hexdigest()

    def chunked() -> Any:  # no Content-Length: only the disk itself can tell
        pieces = (data[at : at + 65536] for at in range(0, len(data), 65536))
        request = urllib.request.Request(f"{on_small_disk.url}/api/blobs/{digest}", pieces, method="POST")
        return urllib.request.urlopen(request, timeout=60)

    status, text = refused(chunked)
    assert status == 507
    assert text.startswith("not enough space: need ")
    assert_intact(on_small_disk)


async def test_a_pull_that_cannot_fit_is_refused_with_need_and_free(on_small_disk: ServerProcess) -> None:
    big = os.urandom(DISK_MIB * MIB)
    async with FakeRegistry().serve() as registry:
        registry.add_model("library/big", "latest", {media.MODEL: big})
        body = {"model": f"{registry.host}/library/big", "insecure": True}
        lines = await asyncio.to_thread(lambda: list(on_small_disk.stream("/api/pull", body)))
    assert lines[-1]["error"].startswith("not enough space: need ")
    need = int(lines[-1]["error"].split()[4])
    assert need >= len(big)
    assert_intact(on_small_disk)


def test_a_create_on_a_full_disk_leaves_nothing_behind(on_small_disk: ServerProcess, tmp_path: Path) -> None:
    digest = upload(on_small_disk, tiny_llama(tmp_path / "other.gguf", seed=5).read_bytes())
    ballast = on_small_disk.models.parent / "ballast"
    fill(ballast)
    status, text = refused(
        lambda: on_small_disk.post("/api/create", {"model": "more", "files": {"m.gguf": digest}, "system": "x" * 9000})
    )
    assert status == 507
    assert text.startswith("not enough space: need ")
    status, text = refused(lambda: on_small_disk.post("/api/copy", {"source": "tiny", "destination": "again/deep"}))
    assert status == 507
    assert on_small_disk.post("/api/generate", TINY)["eval_count"] == 4
    ballast.unlink()
    ModelStore(on_small_disk.models).blobs.remove(Digest.parse(digest))
    assert_intact(on_small_disk)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as output, suppress(OSError):
        while output.write(bytes(4096)):
            pass


def weights_of(server: ServerProcess, name: str) -> Path:
    """The file of a model's weights."""
    store = ModelStore(server.models)
    weights = store.load(store.resolve(name)).weights
    assert weights is not None
    return weights


def test_a_blob_deleted_before_a_load_is_named_with_what_repairs_it(serve: Serve) -> None:
    server = serve()
    weights_of(server, "tiny").unlink()
    status, text = refused(lambda: server.post("/api/generate", TINY))
    assert status == 500
    assert "model 'tiny:latest' is damaged: blob sha256:" in text
    assert "corral pull tiny:latest" in text
    assert "corral fsck" in text
    assert str(server.models) not in text
    status, text = refused(lambda: server.post("/api/show", {"model": "tiny"}))
    assert status == 500
    assert "corral fsck" in text


def test_a_blob_deleted_under_a_loaded_model_is_told_and_the_model_can_be_unloaded(serve: Serve) -> None:
    server = serve()
    server.post("/api/generate", TINY)
    weights_of(server, "tiny").unlink()
    status, text = refused(lambda: server.post("/api/generate", TINY))
    assert (status, "corral pull tiny:latest" in text) == (500, True)
    assert server.post("/api/generate", {"model": "tiny", "keep_alive": 0})["done_reason"] == "unload"
    until(lambda: not server.request("GET", "/api/ps")["models"], 10, "the model to go")
    server.request("DELETE", "/api/delete", {"model": "tiny"})
    assert [row["name"] for row in server.request("GET", "/api/tags")["models"]] == ["smollm2:latest"]


def test_damaged_weights_are_refused_by_create_or_by_the_load_and_the_server_stays_up(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    whole = tiny_llama(tmp_path / "tiny.gguf", seed=9).read_bytes()
    statuses = {outcome(server, f"d{number}", data) for number, data in enumerate(damaged(whole))}
    assert statuses <= {"refused", "failed to load", "answered"}
    assert "refused" in statuses
    assert server.process.poll() is None
    assert server.post("/api/generate", TINY)["eval_count"] == 4


def damaged(whole: bytes) -> Iterator[bytes]:
    """The file cut at four places, and twenty times with a few bytes of its header changed. The same every time."""
    yield from (whole[:size] for size in (4, 100, 10_000, len(whole) - 1_000))
    chance = random.Random(20)
    for _ in range(20):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(24, 6000)] = chance.randrange(256)
        yield bytes(data)


def outcome(server: ServerProcess, name: str, data: bytes) -> str:
    """What becomes of damaged weights: `refused` by create, `failed to load`, or `answered` when it does no harm."""
    digest = upload(server, data)
    try:
        server.post("/api/create", {"model": name, "files": {"m.gguf": digest}})
    except urllib.error.HTTPError as error:
        check_error(server, error, {400})
        return "refused"
    try:
        server.post("/api/generate", {**TINY, "model": name, "keep_alive": 0}, 60)
    except urllib.error.HTTPError as error:
        check_error(server, error, {400, 500})
        return "failed to load"
    return "answered"


def check_error(server: ServerProcess, error: urllib.error.HTTPError, statuses: set[int]) -> None:
    """An error of one of these statuses that says something, and no path."""
    with error:
        text = json.load(error)["error"]
    assert error.code in statuses, text
    assert text
    assert "internal" not in text
    assert str(server.models) not in text


async def test_a_store_that_cannot_be_written_says_so_and_goes_on_serving(on_small_disk: ServerProcess) -> None:
    disk = str(on_small_disk.models.parent)
    words = "the models folder cannot be written: read-only file system"
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        async with FakeRegistry().serve() as registry:
            registry.add_model("library/big", "latest", {media.MODEL: b"GGUF"})
            pull = {"model": f"{registry.host}/library/big", "insecure": True, "stream": False}
            writes: list[Callable[[], Any]] = [
                lambda: on_small_disk.post("/api/pull", pull),
                lambda: on_small_disk.post("/api/create", {"model": "b", "from": "tiny", "system": "x"}),
                lambda: on_small_disk.post("/api/copy", {"source": "tiny", "destination": "b"}),
                lambda: on_small_disk.request("DELETE", "/api/delete", {"model": "tiny"}),
                lambda: upload(on_small_disk, b"bytes"),
            ]
            for write in writes:
                assert await asyncio.to_thread(refused, write) == (500, words)
        assert (await asyncio.to_thread(on_small_disk.post, "/api/generate", TINY))["eval_count"] == 4
        other = start_server(on_small_disk.models.parents[1] / "other", models=on_small_disk.models)
        try:
            assert any(f"{words}; its models can be used" in line for line in other.log)
            assert other.post("/api/generate", TINY)["eval_count"] == 4
        finally:
            other.stop(9)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert_intact(on_small_disk)
