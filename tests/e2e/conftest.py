"""Real servers for the end-to-end tests: `corral serve` as a child process on a free port, with a store of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import tiny_llama
from tests.fakes.stores import add_model

from corral.runner.hostload import usable_cores
from corral.store import ModelStore

SHARED = Path(__file__).resolve().parents[3] / "shared"
START_TIMEOUT_S = 60.0


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ServerProcess:
    """A running `corral serve`; `log` collects its output."""

    process: subprocess.Popen[str]
    port: int
    home: Path
    models: Path
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the server itself."""
        return self.process.pid

    def request(self, method: str, path: str, body: Any = None, timeout_s: float = 120.0) -> Any:
        """One JSON request; returns the decoded answer (None for an empty one). Raises HTTPError for errors."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            text = response.read().decode()
        return json.loads(text) if text.strip().startswith(("{", "[")) else text or None

    def post(self, path: str, body: Any, timeout_s: float = 120.0) -> Any:
        """POST without streaming."""
        return self.request("POST", path, {"stream": False, **body}, timeout_s)

    def stream(self, path: str, body: Any, timeout_s: float = 120.0) -> Iterator[dict[str, Any]]:
        """POST with streaming; one decoded object a line."""
        data = json.dumps({"stream": True, **body}).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            for line in response:
                if line.strip():
                    yield json.loads(line)

    def stop(self, how: int = signal.SIGTERM, timeout_s: float = 40.0) -> int:
        """Send a signal and reap; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout_s)


def start_server(
    folder: Path, *, models: Path | None = None, env: Mapping[str, str] | None = None, port: int = 0
) -> ServerProcess:
    """Start `corral serve` with its home below `folder`; returns when it answers. port: 0 = any that is free."""
    port, home = port or free_port(), folder / "home"
    models = models or folder / "models"
    home.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    settings = {
        "HOME": str(folder),
        "CORRAL_HOST": f"127.0.0.1:{port}",
        "CORRAL_HOME": str(home),
        "CORRAL_MODELS": str(models),
        "CORRAL_KERNELS": "off",  # a server that is idle between tests would compile
        "CORRAL_THREADS": str(usable_cores()),  # else pytest's own work counts as another's, and takes a core
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "corral", "serve"],
        env={**clean, **settings, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    server = ServerProcess(child, port, home, models)
    threading.Thread(target=_collect, args=(server,), daemon=True).start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            server.request("GET", "/", timeout_s=5)  # which asks for no key
        except OSError:
            if child.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return server
    child.kill()
    child.wait()
    raise RuntimeError("the server did not start:\n" + "\n".join(server.log[-40:]))


def _collect(server: ServerProcess) -> None:
    assert server.process.stdout is not None
    with server.process.stdout as output:
        for line in output:
            server.log.append(line.rstrip("\n"))
            del server.log[:-2000]


def create_golden_models(server: ServerProcess, models_dir: Path, *names: str) -> None:
    """Create smollm2:135m, gemma3:270m and all-minilm (or those named) from local files through the API."""
    wanted = names or ("smollm2:135m", "gemma3:270m", "all-minilm")
    minilm = models_dir / "minilm"
    sources: dict[str, dict[str, Path]] = {
        "smollm2:135m": {"smollm2.gguf": models_dir / "smollm2.gguf"},
        "gemma3:270m": {"gemma3.gguf": models_dir / "gemma3.gguf"},
        "all-minilm": {
            str(p.relative_to(minilm)): p for p in sorted(minilm.rglob("*")) if p.suffix in {".json", ".safetensors"}
        },
    }
    for name in wanted:
        files = {key: _upload(server, path) for key, path in sources[name].items()}
        assert server.post("/api/create", {"model": name, "files": files}) == {"status": "success"}


def _upload(server: ServerProcess, path: Path) -> str:
    import hashlib

    digest = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    request = urllib.request.Request(f"{server.url}/api/blobs/{digest}", path.read_bytes(), method="POST")
    with urllib.request.urlopen(request, timeout=120):
        return digest


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[ServerProcess]:
    """One server for all tests that do not break it, with the three golden models."""
    running = start_server(tmp_path_factory.mktemp("server"))
    try:
        create_golden_models(running, models_dir)
        yield running
    finally:
        running.stop()


@pytest.fixture
def own_server(tmp_path: Path, server: ServerProcess) -> Iterator[ServerProcess]:
    """A server of the test's own, to break: the golden models are linked from the session's store."""
    running = start_server(tmp_path, models=linked_store(server.models, tmp_path / "models"))
    try:
        yield running
    finally:
        running.stop(signal.SIGKILL)


def linked_store(source: Path, target: Path) -> Path:
    """A copy of a store whose blobs are hard links."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif path.parent.name == "blobs" and path.name.startswith("sha256-"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.hardlink_to(path)
        elif "manifests" in path.parts:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return target


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """A store with `smollm2`, slow enough to be watched at work, and `tiny`, which loads at once; to be copied."""
    folder = tmp_path_factory.mktemp("small")
    store = ModelStore(folder / "models")
    add_model(store, "smollm2", models_dir / "smollm2.gguf")
    add_model(store, "tiny", tiny_llama(folder / "tiny.gguf"))
    return store.root


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """Where servers of `serve` put their sockets; short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="cr") as folder:
        yield Path(folder)


@pytest.fixture
def serve(tmp_path: Path, small_store: Path, runtime_dir: Path) -> Iterator[Callable[..., ServerProcess]]:
    """`serve(NAME="value", …)` starts a server on a copy of the small store, with CORRAL_NAME set; killed at the end.

    A second call starts another server on the same home and store.
    """
    with servers(tmp_path, small_store, runtime_dir) as start:
        yield start


@pytest.fixture(scope="module")
def one_slot_server(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Iterator[ServerProcess]:
    """A server on the small store for a module's tests, with one slot per model."""
    with (
        tempfile.TemporaryDirectory(prefix="cr") as runtime,
        servers(tmp_path_factory.mktemp("one-slot"), small_store, Path(runtime)) as start,
    ):
        yield start(NUM_PARALLEL=1)


@contextlib.contextmanager
def servers(folder: Path, store: Path, runtime: Path) -> Iterator[Callable[..., ServerProcess]]:
    """What the fixture `serve` gives."""
    running: list[ServerProcess] = []

    def start(**settings: object) -> ServerProcess:
        if not (folder / "models").exists():
            linked_store(store, folder / "models")
        env = {f"CORRAL_{name}": str(value) for name, value in settings.items()}
        running.append(start_server(folder, env={**env, "XDG_RUNTIME_DIR": str(runtime)}))
        return running[-1]

    try:
        yield start
    finally:
        for each in running:
            each.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout with the guide and the golden answers; skips where it is absent."""
    if not (SHARED / "guide.md").exists():
        pytest.skip("../shared (guide, golden answers) is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def guide_server(
    tmp_path_factory: pytest.TempPathFactory, server: ServerProcess, shared: Path
) -> Iterator[ServerProcess]:
    """A server whose store has small models under the names that the guide uses; answers of llama3.2 are short."""
    folder = tmp_path_factory.mktemp("guide")
    running = start_server(folder, models=linked_store(server.models, folder / "models"))
    try:
        short = {"model": "llama3.2", "from": "smollm2:135m", "parameters": {"num_predict": 48}}
        running.post("/api/create", short)
        for source, name in (("llama3.2", "llama3.2:3b"), ("all-minilm", "nomic-embed-text")):
            running.request("POST", "/api/copy", {"source": source, "destination": name})
        yield running
    finally:
        running.stop()
