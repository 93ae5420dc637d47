"""`serve --share`: others pull the models of a server, as from a registry, and can do nothing else there."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.e2e.conftest import ServerProcess, start_server
from tests.e2e.test_registry_docker import running_registry
from tests.fakes.ggufs import tiny_llama
from tests.fakes.stores import add_model

from corral.config import Settings
from corral.errors import RegistryError
from corral.names import ModelName
from corral.registry.logins import Logins
from corral.registry.service import Registry
from corral.store import ModelStore
from corral.store.archive import export
from corral.store.manifests import Manifest

KEY = "a-key-of-the-team"
TEXTS = {"template": "{{ .Prompt }}", "system": "Be brief."}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["errors"][0]["code"]
        return code


def ask(server: ServerProcess, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    connection.close()
    return answer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    folder = tmp_path_factory.mktemp("shared")
    store = ModelStore(folder / "models")
    add_model(store, "tiny:1", tiny_llama(folder / "a.gguf"), texts=TEXTS)
    add_model(store, "team/other:2", tiny_llama(folder / "b.gguf", seed=2))
    return store


@pytest.fixture(scope="module")
def sharing(store: ModelStore) -> Iterator[ServerProcess]:
    server = start_server(store.root.parent, env={"CORRAL_SHARE": "true"})
    yield server
    server.stop()


def weights_of(store: ModelStore, name: str) -> tuple[str, bytes]:
    digest = store.manifests.read(ModelName.parse(name)).layers[0].digest
    return str(digest), store.blobs.path(digest).read_bytes()


async def pull(reference: str, folder: Path) -> tuple[ModelStore, Manifest]:
    """Into a store of its own; the manifest that came."""
    mine = ModelStore(folder / "models")
    registry = Registry(mine, Settings(home=folder / "home", models=mine.root))
    try:
        statuses = [status.status async for status in registry.pull(reference, insecure=True)]
    finally:
        await registry.close()
    assert statuses[-1] == "success"
    return mine, mine.manifests.read(ModelName.parse(reference))


async def test_another_corral_pulls_byte_for_byte(sharing: ServerProcess, store: ModelStore, tmp_path: Path) -> None:
    mine, pulled = await pull(f"http://127.0.0.1:{sharing.port}/library/tiny:1", tmp_path)
    assert pulled.raw == store.manifests.read(ModelName.parse("tiny:1")).raw
    for layer in pulled.all_layers:
        mine.blobs.verify(layer.digest)


async def test_a_docker_registry_mirrors_it(sharing: ServerProcess, store: ModelStore, tmp_path: Path) -> None:
    mirrored = f"proxy:\n  remoteurl: http://127.0.0.1:{sharing.port}\n"
    with running_registry(tmp_path, mirrored) as mirror:
        mine, pulled = await pull(f"http://{mirror}/library/tiny:1", tmp_path)
    assert pulled.raw == store.manifests.read(ModelName.parse("tiny:1")).raw
    for layer in pulled.all_layers:
        mine.blobs.verify(layer.digest)


def test_manifests_come_by_tag_and_by_digest_for_head_too(sharing: ServerProcess, store: ModelStore) -> None:
    raw = store.manifests.read(ModelName.parse("tiny:1")).raw
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    for reference in ("1", digest):
        answer = ask(sharing, f"/v2/library/tiny/manifests/{reference}")
        assert (answer.status, answer.body) == (200, raw)
        assert answer.headers["docker-content-digest"] == digest
        head = ask(sharing, f"/v2/library/tiny/manifests/{reference}", "HEAD")
        assert (head.status, head.headers["content-length"], head.body) == (200, str(len(raw)), b"")


def test_a_blob_comes_in_ranges(sharing: ServerProcess, store: ModelStore) -> None:
    digest, data = weights_of(store, "tiny:1")
    answer = ask(sharing, f"/v2/library/tiny/blobs/{digest}", Range="bytes=1000-1999")
    assert (answer.status, answer.body) == (206, data[1000:2000])
    assert answer.headers["content-range"] == f"bytes 1000-1999/{len(data)}"
    assert ask(sharing, f"/v2/library/tiny/blobs/{digest}").body == data


def test_names_and_tags_are_listed_in_parts(sharing: ServerProcess) -> None:
    assert json.loads(ask(sharing, "/v2/_catalog").body) == {"repositories": ["library/tiny", "team/other"]}
    first = ask(sharing, "/v2/_catalog?n=1")
    assert json.loads(first.body) == {"repositories": ["library/tiny"]}
    following = first.headers["link"].partition(">")[0].removeprefix("<")
    assert json.loads(ask(sharing, following).body) == {"repositories": ["team/other"]}
    assert json.loads(ask(sharing, "/v2/team/other/tags/list").body) == {"name": "team/other", "tags": ["2"]}


def test_a_blob_is_given_below_its_own_name_only(sharing: ServerProcess, store: ModelStore) -> None:
    digest, _ = weights_of(store, "tiny:1")
    stray, _ = store.blobs.put(b"uploaded, and of no model")
    assert ask(sharing, f"/v2/team/other/blobs/{digest}").code == "BLOB_UNKNOWN"
    assert ask(sharing, f"/v2/library/tiny/blobs/{stray}").code == "BLOB_UNKNOWN"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/library/none/manifests/1", "MANIFEST_UNKNOWN"),
        ("/v2/library/tiny/manifests/9", "MANIFEST_UNKNOWN"),
        ("/v2/library/tiny/manifests/a%20b", "MANIFEST_UNKNOWN"),
        ("/v2/library/tiny/manifests/sha256:" + "0" * 64, "MANIFEST_UNKNOWN"),
        ("/v2/library/tiny/manifests/sha256:xyz", "DIGEST_INVALID"),
        ("/v2/library/tiny/blobs/sha256:xyz", "DIGEST_INVALID"),
        ("/v2/library/none/tags/list", "NAME_UNKNOWN"),
        ("/v2/evil.example/library/tiny/manifests/1", "NAME_INVALID"),
        ("/v2/library/..%2f..%2fetc/manifests/passwd", "NAME_INVALID"),
    ],
)
def test_what_is_not_here_is_said_in_the_specifications_words(sharing: ServerProcess, path: str, code: str) -> None:
    answer = ask(sharing, path)
    assert (answer.status, answer.code) == (404, code)


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_nothing_is_written(sharing: ServerProcess, method: str) -> None:
    assert ask(sharing, "/v2/library/tiny/manifests/1", method).status == 405
    assert ask(sharing, "/v2/library/tiny/blobs/uploads/", method).status in {404, 405}


def test_a_key_is_asked_for_as_oci_clients_expect(store: ModelStore, tmp_path: Path) -> None:
    server = start_server(tmp_path, models=store.root, env={"CORRAL_SHARE": "1", "CORRAL_API_KEYS": KEY})
    try:
        refused = ask(server, "/v2/")
        assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
        assert refused.headers["www-authenticate"].startswith("Basic ")
        for shown in (f"team:{KEY}", f":{KEY}"):
            assert ask(server, "/v2/", Authorization=f"Basic {base64.b64encode(shown.encode()).decode()}").status == 200
        for wrong in ("team:other", "no colon"):
            header = f"Basic {base64.b64encode(wrong.encode()).decode()}"
            assert ask(server, "/v2/", Authorization=header).status == 401
        assert ask(server, "/v2/", Authorization="Basic ***").status == 401
        assert ask(server, "/v2/", Authorization=f"Bearer {KEY}").status == 200
        basic = f"Basic {base64.b64encode(f'team:{KEY}'.encode()).decode()}"
        assert ask(server, "/api/tags", Authorization=basic).status == 401
    finally:
        server.stop()


def test_nothing_is_shared_unless_asked_for(store: ModelStore, tmp_path: Path) -> None:
    server = start_server(tmp_path, models=store.root)
    try:
        assert ask(server, "/v2/").status == 404
        assert ask(server, "/v2/library/tiny/manifests/1").status == 404
    finally:
        server.stop()


async def test_a_key_that_login_keeps_opens_a_server_that_asks_for_one(store: ModelStore, tmp_path: Path) -> None:
    """All of a pull, ranges too; the key goes to this host and port, is in a file for its owner, and in no log."""
    server = start_server(tmp_path, models=store.root, env={"CORRAL_SHARE": "1", "CORRAL_API_KEYS": KEY})
    reference = f"http://127.0.0.1:{server.port}/library/tiny:1"
    home = tmp_path / "home"
    command = [sys.executable, "-m", "corral", "login", f"http://127.0.0.1:{server.port}/"]
    env = {**os.environ, "CORRAL_HOME": str(home)}
    try:
        with pytest.raises(RegistryError, match="unauthorized"):
            await pull(reference, tmp_path)
        for key, opens in (("another", False), (KEY, True)):
            done = subprocess.run(command, input=f"{key}\n", env=env, capture_output=True, text=True, check=True)
            assert key not in done.stdout + done.stderr
            if not opens:
                with pytest.raises(RegistryError, match="unauthorized"):
                    await pull(reference, tmp_path)
        mine, pulled = await pull(reference, tmp_path)
        assert pulled.raw == store.manifests.read(ModelName.parse("tiny:1")).raw
        for layer in pulled.all_layers:
            mine.blobs.verify(layer.digest)
        assert stat.S_IMODE((home / "logins.json").stat().st_mode) == 0o600
        command[3] = "logout"
        subprocess.run(command, env=env, capture_output=True, check=True)
        assert json.loads((home / "logins.json").read_text()) == {}
        assert KEY not in "\n".join(server.log)
    finally:
        server.stop()


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="Debian's skopeo is not here")
def test_skopeo_reads_what_is_shared_and_what_is_exported(store: ModelStore, tmp_path: Path) -> None:
    """Its copies refuse the media types of models' layers; manifests and tags it takes whatever they list."""
    raw = store.manifests.read(ModelName.parse("tiny:1")).raw

    def skopeo(*words: str) -> bytes:
        done = subprocess.run(["skopeo", *words], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    server = start_server(tmp_path, models=store.root, env={"CORRAL_SHARE": "1", "CORRAL_API_KEYS": KEY})
    try:
        place = f"docker://127.0.0.1:{server.port}/library/tiny"
        login = ("--tls-verify=false", "--creds", f"team:{KEY}")
        assert skopeo("inspect", "--raw", *login, f"{place}:1") == raw
        digest = f"{place}@sha256:{hashlib.sha256(raw).hexdigest()}"
        assert skopeo("inspect", "--raw", *login, digest) == raw
        assert json.loads(skopeo("list-tags", *login, place))["Tags"] == ["1"]
    finally:
        server.stop()
    export(store, [ModelName.parse("tiny:1")], tmp_path / "tiny.tar")
    assert skopeo("inspect", "--raw", f"oci-archive:{tmp_path / 'tiny.tar'}") == raw


def test_models_travel_in_a_file_and_answer_there(store: ModelStore, tmp_path: Path) -> None:
    names, file = ("tiny:1", "team/other:2"), tmp_path / "models.tar"

    def corral(models: Path, *words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "CORRAL_MODELS": str(models), "CORRAL_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-m", "corral", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert corral(store.root, "export", *names, "-o", str(file)).returncode == 0
    mine = ModelStore(tmp_path / "models")
    done = corral(mine.root, "import", str(file))
    assert (done.returncode, done.stdout.count("runs here")) == (0, 2), done.stderr
    for name in names:
        assert mine.manifests.read(ModelName.parse(name)).raw == store.manifests.read(ModelName.parse(name)).raw
    server = start_server(tmp_path, models=mine.root)
    try:
        body = {"model": "team/other:2", "prompt": "Hello", "options": {"num_predict": 3, "temperature": 0}}
        assert server.post("/api/generate", body)["done"]
    finally:
        server.stop()
    missing = corral(mine.root, "export", "none", "-o", str(tmp_path / "none.tar"))
    assert (missing.returncode, (tmp_path / "none.tar").exists()) == (1, False)


async def test_a_pull_by_key_goes_on_where_it_was_left(store: ModelStore, tmp_path: Path) -> None:
    server = start_server(tmp_path, models=store.root, env={"CORRAL_SHARE": "1", "CORRAL_API_KEYS": KEY})
    mine, home = ModelStore(tmp_path / "models"), tmp_path / "home"
    reference = f"http://127.0.0.1:{server.port}/library/tiny:1"
    Logins(home).save(f"http://127.0.0.1:{server.port}", KEY)
    seen: dict[int, list[int]] = {150_000: [], 0: []}  # bytes that were here, by the limit of the rate
    try:
        for rate, told in seen.items():
            registry = Registry(mine, Settings(home=home, models=mine.root, limit_rate=rate))
            try:
                async with aclosing(registry.pull(reference, insecure=True)) as statuses:
                    async for status in statuses:
                        if status.total > 200_000 and status.completed:
                            told.append(status.completed)
                        if rate and told:
                            break
            finally:
                await registry.close()
    finally:
        server.stop()
    assert 0 < seen[150_000][-1] < 400_000
    assert seen[0][0] >= seen[150_000][-1]
    manifest = mine.manifests.read(ModelName.parse(reference))
    assert manifest.raw == store.manifests.read(ModelName.parse("tiny:1")).raw
    for layer in manifest.all_layers:
        mine.blobs.verify(layer.digest)
