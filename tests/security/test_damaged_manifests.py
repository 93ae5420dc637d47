"""Nothing of another is removed while anything cannot be read, and damage is always said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.server import RunningServer

from corral.names import ModelName
from corral.store import ModelStore
from corral.store import manifests as media
from corral.store.care import fsck, prune_at_start


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "half": _half,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(400)),
    "other": lambda path: path.write_bytes(b'{"layers": 5}'),
    "folder": _folder,
    "dangling": _dangling,
    "pipe": _pipe,
}


def prepare(server: RunningServer, damage: str) -> ModelStore:
    """`go` and `twin` share all blobs; the manifest of `twin` is damaged."""
    store = server.deps.store
    store.copy(ModelName.parse("go"), ModelName.parse("twin"))
    DAMAGE[damage](store.manifests.path(ModelName.parse("twin")))
    return store


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("way", ["delete", "overwrite", "start"])
async def test_no_blob_goes_while_a_manifest_cannot_be_read(server: RunningServer, damage: str, way: str) -> None:
    store = prepare(server, damage)
    before = set(store.blobs.digests())
    if way == "delete":
        assert (await server.call("DELETE", "/api/delete", {"model": "go"}))[0] == 200
    elif way == "overwrite":
        body = {"model": "go", "from": "jinja", "system": "new"}
        assert await server.post("/api/create", body) == (200, {"status": "success"})
    else:
        store.gc_grace_s = 0
        prune_at_start(store)
    assert before <= set(store.blobs.digests())


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_is_said_everywhere(server: RunningServer, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    store = prepare(server, damage)
    _, listed = await server.call("GET", "/api/tags")
    [row] = [row for row in listed["models"] if row["name"] == "twin:latest"]
    assert row["warnings"][0]["code"] == "model_damaged"
    assert any("twin" in record.getMessage() for record in caplog.records)
    assert any("twin" in str(finding) for finding in fsck(store).findings)
    status, reply = await server.post("/api/generate", {"model": "twin", "prompt": "x"})
    assert status == 500
    assert "damaged" in reply["error"]
    assert str(store.root) not in str(reply) + str(listed)
    assert (await server.post("/api/generate", {"model": "go", "prompt": "x"}))[0] == 200


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("way", ["pull", "pull that fails", "copy", "delete of the damaged one"])
async def test_nor_on_any_other_way_on_which_blobs_become_unused(
    server: RunningServer, fake: FakeRegistry, damage: str, way: str
) -> None:
    name = f"{fake.host}/library/m"
    fake.add_model("library/m", "latest", {media.MODEL: b"GGUF 1", media.SYSTEM: b"one"})
    assert (await server.post("/api/pull", {"model": name, "insecure": True}))[0] == 200
    store = server.deps.store
    store.copy(ModelName.parse(name), ModelName.parse("sharer"))
    DAMAGE[damage](store.manifests.path(ModelName.parse("sharer")))
    before = set(store.blobs.digests())
    if way == "pull":
        fake.add_model("library/m", "latest", {media.MODEL: b"GGUF 2", media.SYSTEM: b"two"})
        assert (await server.post("/api/pull", {"model": name, "insecure": True}))[0] == 200
    elif way == "pull that fails":
        fake.add_model("library/m", "latest", {media.SYSTEM: b"two", media.MODEL: b"GGUF 2"})
        del fake.blobs[digest_of(b"GGUF 2")]
        assert (await server.post("/api/pull", {"model": name, "insecure": True}))[0] == 500
    elif way == "copy":
        assert (await server.post("/api/copy", {"source": "go", "destination": name}))[0] == 200
    else:
        await server.call("DELETE", "/api/delete", {"model": "sharer"})
    assert before <= set(store.blobs.digests())
