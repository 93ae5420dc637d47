"""Path traversal, and files of the server told by its errors: digests and names never leave the store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.server import RunningServer
from yarl import URL

from corral.store import manifests as media

HEX = "a" * 64
DIGESTS = [
    "../../../etc/passwd",
    "sha256:../../../../etc/passwd",
    f"sha256:{HEX}/../../x",
    f"sha256-{HEX}/..",
    f"SHA256:{HEX}",
    f"sha256:{HEX.upper()}",
    f"sha256:{HEX[:-1]}",
    f"sha256:{HEX}a",
    f"sha256:{HEX}\x00",
    f"sha256:{HEX}\n",
    f" sha256:{HEX}",
    f"sha512:{HEX}",
    "sha256:" + "\uff41" * 64,
    "/etc/passwd",
    "..",
    HEX,
]
WELL_FORMED = {f"sha256:{HEX.upper()}"}  # read as the one in lower case, which nobody has uploaded
NAMES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "..",
    ".",
    "a:../../x",
    "a/b/c/../../../../d",
    "a\x00b",
    "a\\..\\b",
    "~/x",
    "file:///etc/passwd",
    "a:b/../c",
    "\u2024\u2024/x",
    "..%2f..%2fx",
    "host/../../../x:y",
]


def everything(folder: Path) -> set[Path]:
    """All files below."""
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def outside(server: RunningServer) -> Path:
    """A folder beside the store, with a file that must stay, and a model `go` to ask for."""
    folder = server.deps.store.root.parent
    (folder / "secret.gguf").write_bytes(b"GGUF secret")
    return folder


async def test_a_digest_that_is_none_makes_deletes_and_finds_nothing(server: RunningServer, outside: Path) -> None:
    before = everything(outside)
    for digest in DIGESTS:
        target = URL(f"{server.url}/api/blobs/{quote(digest, safe='')}", encoded=True)
        for method in ("POST", "HEAD"):
            async with server.http.request(method, target, data=b"x", allow_redirects=False) as answer:
                assert answer.status in {400, 404}, (method, digest)
        for key in ("files", "adapters", "draft_files"):
            body: dict[str, Any] = {"model": "made", "files": {}, key: {"m.gguf": digest}}
            status, reply = await server.post("/api/create", body)
            assert status == 400, (key, digest, reply)
            assert (reply["error"] == "invalid digest format") is (digest not in WELL_FORMED), (key, digest, reply)
        for text in (f"FROM @{digest}", f"FROM go\nADAPTER @{digest}"):
            status, reply = await server.post("/api/create", {"model": "made", "modelfile": text})
            assert status == 400, (text, reply)
    assert everything(outside) == before


async def test_a_name_that_is_a_path_makes_deletes_and_finds_nothing(server: RunningServer, outside: Path) -> None:
    before = everything(outside)
    for name in NAMES:
        tries: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/api/show", {"model": name}),
            ("DELETE", "/api/delete", {"model": name}),
            ("POST", "/api/copy", {"source": "go", "destination": name}),
            ("POST", "/api/copy", {"source": name, "destination": "x"}),
            ("POST", "/api/create", {"model": name, "from": "go", "stream": False}),
            ("POST", "/api/create", {"model": "x", "from": name, "stream": False}),
            ("POST", "/api/generate", {"model": name, "prompt": "x", "stream": False}),
            ("POST", "/v1/chat/completions", {"model": name, "messages": []}),
            ("POST", "/api/push", {"model": name, "stream": False}),
        ]
        for method, path, body in tries:
            status, reply = await server.call(method, path, body)
            assert status in {400, 404}, (path, name, reply)
            assert str(outside) not in str(reply)
        async with server.http.get(URL(f"{server.url}/v1/models/{quote(name, safe='')}", encoded=True)) as answer:
            assert answer.status in {400, 404}, name
    assert everything(outside) == before


async def test_names_of_files_in_a_create_request_stay_names(server: RunningServer, outside: Path) -> None:
    data = make_gguf(outside / "made.gguf", "llama", {"llama.context_length": 9}, {"w": (2, 2)}).read_bytes()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    await server.call("POST", f"/api/blobs/{digest}", data)
    before = everything(outside)
    for name in ("../x.gguf", "/etc/x.gguf", "a/../../x.gguf", "a//x.gguf", "./x.gguf", ""):
        status, reply = await server.post("/api/create", {"model": "made", "files": {name: digest}})
        assert (status, reply) == (400, {"error": "file path must be relative"}), name
    assert everything(outside) == before


async def test_a_file_of_the_server_is_told_like_one_that_is_not_there(server: RunningServer, outside: Path) -> None:
    there, missing = outside / "secret.gguf", outside / "absent.gguf"
    for make in (
        lambda path: ("/api/create", {"model": "x", "modelfile": f"FROM {path}"}),
        lambda path: ("/api/create", {"model": "x", "modelfile": f"FROM go\nADAPTER {path}"}),
        lambda path: ("/api/create", {"model": "x", "path": str(path)}),
        lambda path: ("/api/show", {"model": str(path)}),
        lambda path: (
            "/api/chat",
            {"model": "go", "messages": [{"role": "user", "content": "x", "images": [str(path)]}]},
        ),
    ):
        answers = []
        for path in (there, missing):
            route, body = make(path)
            status, reply = await server.post(route, body)
            answers.append((status, str(reply).replace(str(path), "PATH")))
        assert answers[0] == answers[1]
        assert answers[0][0] in {400, 404}


@pytest.mark.parametrize("place", ["config", "layer"])
async def test_a_registrys_manifest_names_no_files(
    server: RunningServer, fake: FakeRegistry, outside: Path, place: str
) -> None:
    before = everything(outside)
    for digest in DIGESTS:
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest_of(b"{}"), "size": 2}
        layer = {"mediaType": media.MODEL, "digest": digest_of(b"GGUF"), "size": 4}
        (config if place == "config" else layer)["digest"] = digest
        fake.blobs = {digest_of(b"{}"): b"{}", digest_of(b"GGUF"): b"GGUF", digest: b"GGUF"}
        fake.manifests["library/m", "latest"] = json.dumps({"config": config, "layers": [layer]}).encode()
        status, reply = await server.post("/api/pull", {"model": f"{fake.host}/library/m", "insecure": True})
        assert status >= 400, (digest, reply)
        assert not any("/blobs/" in seen.path and ".." in seen.path for seen in fake.seen)
    left = {path for path in everything(outside) - before if "manifests" in path.parts or "secret" in path.name}
    assert left == set()
    assert (outside / "secret.gguf").read_bytes() == b"GGUF secret"


async def test_a_manifest_on_disk_that_names_a_path_is_damaged(server: RunningServer, outside: Path) -> None:
    store = server.deps.store
    [path] = [path for path in store.manifests.directory.rglob("latest") if "go" in path.parts]
    document = json.loads(path.read_text())
    document["layers"][0]["digest"] = "sha256:../../secret.gguf"
    path.write_text(json.dumps(document))
    for route, body in (("/api/show", {"model": "go"}), ("/api/generate", {"model": "go", "prompt": "x"})):
        status, reply = await server.post(route, body)
        assert status in {400, 500}
        assert "secret" not in reply["error"] or "digest" in reply["error"]
    await server.call("DELETE", "/api/delete", {"model": "go"})
    assert (outside / "secret.gguf").exists()
