"""A llama-server built for this processor from the pinned engine's sources: a contender of peers.py and test_load.py.

`python -m tests.bench.llama_server` builds it once, in some minutes, into build/bench-llama-server.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.contenders import Contender, from_a_server

from corral.kernels.corrections import FAULTS, correct
from corral.kernels.sources import fetch_archive, fetch_tools
from corral.runner.kernels import engine_version

ROOT = Path(__file__).resolve().parents[2] / "build" / "bench-llama-server"
BINARY = ROOT / "bin" / "llama-server"
_TOOLS = ("cmake==4.1.2", "ninja==1.13.0")
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_UI": "OFF",
}
_START_S = 60.0


def build() -> None:
    """Make BINARY unless it is there."""
    if BINARY.exists():
        return
    ROOT.mkdir(parents=True, exist_ok=True)
    archive = fetch_archive(engine_version(), ROOT, _run)
    with tarfile.open(archive) as opened:
        opened.extractall(ROOT / "sources", filter="data")
    (sources,) = (ROOT / "sources").glob("*/thirdparty/llama.cpp")
    correct(
        sources / "ggml", FAULTS
    )  # without, it ends with an illegal instruction where the processor has AMX and gcc is 12
    tools = fetch_tools(_TOOLS, ROOT, _run)
    os.environ |= {"PYTHONPATH": str(tools), "PATH": f"{tools / 'bin'}:{os.environ['PATH']}"}
    options = [f"-D{name}={value}" for name, value in _OPTIONS.items()]
    _run(("cmake", "-S", str(sources), "-B", str(ROOT), "-G", "Ninja", *options), ROOT)
    _run(("cmake", "--build", str(ROOT), "--target", "llama-server"), ROOT)
    shutil.rmtree(ROOT / "sources")


def _run(command: Sequence[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def for_one_client(model: Path, port: int) -> Iterator[Contender]:
    """With the settings that are best for one client."""
    with _started(model, port, "-b", "512", "--load-mode", "none", "--cache-ram", "0"):
        yield from_a_server(lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=300))


def load_s(model: Path, port: int) -> float:
    """Seconds from its start until it says that it serves, with a window of 4,096 tokens for one client."""
    began = time.perf_counter()
    with _started(model, port):
        return time.perf_counter() - began


@contextlib.contextmanager
def _started(model: Path, port: int, *settings: str) -> Iterator[None]:
    place = ("--host", "127.0.0.1", "--port", str(port))
    command = (str(BINARY), "-m", str(model), "-c", "4096", "-np", "1", *settings, *place)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(process, port)
            yield
        finally:
            process.kill()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    """Until it has loaded; raises TimeoutError, also when it has ended."""
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/health")
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.01)
    raise TimeoutError("the llama-server does not serve")


if __name__ == "__main__":
    build()
