"""Push to, and pull from, the CNCF registry as Debian packages it: no redirects, relative truth, real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.ggufs import tiny_llama

from corral.config import Settings
from corral.core import TransferStatus
from corral.names import ModelName
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.manifests import Layer, Manifest
from corral.store.models import ModelStore

pytestmark = pytest.mark.e2e

BINARY = shutil.which("docker-registry") or "/usr/bin/docker-registry"
START_S = 20.0
CONFIG = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
PULL = """\
import asyncio, sys
from pathlib import Path
from corral.config import Settings
from corral.registry.service import Registry
from corral.store.models import ModelStore
async def main(home, models, reference):
    registry = Registry(ModelStore(Path(models)), Settings(home=Path(home), models=Path(models), limit_rate=20_000_000))
    async for status in registry.pull(reference, insecure=True):
        print(status.completed, flush=True)
    await registry.close()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@contextlib.contextmanager
def running_registry(folder: Path, more: str = "") -> Iterator[str]:
    """host:port of a docker-registry that keeps its data in `folder`; skips where it is not installed.

    more: added to its configuration.
    """
    if not Path(BINARY).exists():
        pytest.skip("docker-registry (Debian package) is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(CONFIG.format(root=folder / "data", port=port) + more)
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen([BINARY, "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}/v2/", child)
        yield f"127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(10)


def _wait_until_it_answers(url: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("docker-registry did not start")


def settings_in(folder: Path) -> Settings:
    return Settings(home=folder / "home", models=folder / "models")


def add_model(store: ModelStore, reference: str, blobs: dict[str, bytes]) -> Manifest:
    layers = []
    for media_type, data in blobs.items():
        digest, _ = store.blobs.put(data)
        layers.append(Layer(media_type, digest, len(data)))
    manifest = Manifest(layers[-1], tuple(layers[:-1]))
    store.write(ModelName.parse(reference), manifest)
    return manifest


async def run(registry: Registry, reference: str, *, push: bool = False) -> list[TransferStatus]:
    transfer = registry.push if push else registry.pull
    try:
        return [status async for status in transfer(reference, insecure=True)]
    finally:
        await registry.close()


async def test_what_is_pushed_comes_back_with_the_same_digests(docker_registry: str, tmp_path: Path) -> None:
    settings, reference = settings_in(tmp_path), f"{docker_registry}/me/tiny:1"
    store = ModelStore(settings.models)
    weights = tiny_llama(tmp_path / "tiny.gguf").read_bytes()
    manifest = add_model(
        store,
        reference,
        {media.MODEL: weights, media.TEMPLATE: b"{{ .Prompt }}", media.SYSTEM: b"", media.CONFIG: b"{}\n"},
    )
    statuses = await run(Registry(store, settings), reference, push=True)
    assert [status.status for status in statuses][-2:] == ["pushing manifest", "success"]

    shutil.rmtree(settings.models)
    await run(Registry(store, settings), reference)
    name = ModelName.parse(reference)
    assert store.manifests.read(name).raw == manifest.raw
    for layer in manifest.all_layers:
        store.blobs.verify(layer.digest)
    assert store.load(name).header is not None


async def test_remote_reads_the_header_and_no_weights(docker_registry: str, tmp_path: Path) -> None:
    settings, reference = settings_in(tmp_path), f"{docker_registry}/me/big:1"
    store = ModelStore(settings.models)
    weights = tiny_llama(tmp_path / "tiny.gguf", width=512, layers=4).read_bytes()
    config = b'{"model_format":"gguf","model_family":"llama","model_type":"1M","file_type":"F32"}'
    manifest = add_model(store, reference, {media.MODEL: weights, media.SYSTEM: b"Be brief.", media.CONFIG: config})
    await run(Registry(store, settings), reference, push=True)

    registry = Registry(ModelStore(tmp_path / "other"), settings)
    remote = await registry.remote(reference, insecure=True)
    await registry.close()
    assert remote.digest == manifest.digest_hex
    assert (remote.architecture, remote.context_length, remote.embedding_length) == ("llama", 512, 512)
    assert remote.parameter_count > 4 * 512 * 512
    assert remote.texts == {"system": "Be brief."}
    assert remote.size_bytes == manifest.size_bytes
    assert remote.header_bytes < len(weights)
    assert not (tmp_path / "other").exists()


def test_a_killed_pull_fetches_only_what_it_had_not_written(docker_registry: str, tmp_path: Path) -> None:
    settings, reference = settings_in(tmp_path), f"{docker_registry}/me/killed:1"
    source = ModelStore(tmp_path / "source")
    data = os.urandom(2**20) * 64
    manifest = add_model(source, reference, {media.MODEL: data, media.CONFIG: b"{}\n"})
    asyncio.run(run(Registry(source, settings), reference, push=True))
    command = [sys.executable, "-c", PULL, str(settings.home), str(settings.models), reference]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        reported = next(done for line in child.stdout if (done := int(line)) > 20_000_000)
        child.send_signal(signal.SIGKILL)
    store = ModelStore(settings.models)
    assert not store.blobs.has(manifest.layers[0].digest)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = next(done for line in child.stdout if (done := int(line)) > 0)
        assert child.wait(60) == 0
    assert first >= reported  # what had been reported was on disk
    store.blobs.verify(manifest.layers[0].digest)
    left = [name for name in store.blobs.file_names() if name.startswith("sha256-")]
    assert left == sorted(digest.filename for digest in manifest.digests)
