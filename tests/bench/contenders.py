"""Servers and engines that read the same prompts and write as many tokens: what the comparisons measure. Used by
test_kernels.py and peers.py; nothing else may run beside them.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess, start_server
from tests.fakes.stores import add_model

from corral.kernels.build import find_compiler
from corral.store import ModelStore

ANSWER_TOKENS, ROUNDS = 96, 4
WORDS = {  # of a prompt: some 500 tokens, of SmolLM2's 1,400; the shape has one a letter
    "1B shape, Q4_K_M": 80,
    "Gemma 3 270M, Q4_K_M": 450,
    "SmolLM2 135M, Q4_1": 1300,
}
_WORDS = (
    "river",
    "stone",
    "bridge",
    "lamp",
    "window",
    "garden",
    "train",
    "clerk",
    "number",
    "silver",
    "watch",
    "green",
)
_REST_S = 5.0  # in which its memory is put into huge pages
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")
BEFORE = {"CORRAL_KERNELS": "off", "CORRAL_HUGE_PAGES": "off"}


@dataclass(slots=True)
class Speed:
    """Tokens per second of each round."""

    reading: list[float] = field(default_factory=list)
    answering: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float]:
        """Of reading and of answering."""
        return statistics.median(self.reading), statistics.median(self.answering)

    def against(self, other: Speed) -> tuple[float, float]:
        """Medians of the ratios of each round, of reading and of answering: what a host does meanwhile befalls both."""
        pairs = (self.reading, other.reading), (self.answering, other.answering)
        reading, answering = (statistics.median(a / b for a, b in zip(*pair, strict=True)) for pair in pairs)
        return reading, answering


Contender = Callable[[str], tuple[float, float]]  # a prompt -> tokens per second read and answered


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a runner's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("runner", timeout=300)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def prompt(seed: str, length: int) -> str:
    """A text like no other, of so many words."""
    words = random.Random(seed)
    return " ".join(words.choice(_WORDS) for _ in range(length))


def serve(folder: Path, model: Path, environ: Mapping[str, str]) -> ServerProcess:
    """A server with one model, `m`, that drafts nothing, so that each token of an answer is computed."""
    runtime = folder / "run"
    runtime.mkdir(mode=0o700, parents=True)
    add_model(ModelStore(folder / "models"), "m", model)
    settings = {"CORRAL_SPECULATION": "off", "CORRAL_TUNE": "off", "XDG_RUNTIME_DIR": str(runtime)}
    settings["OLLAMA_KEEP_ALIVE"] = "-1"  # a runner that is asked past the server seems idle to it
    return start_server(folder, env={**settings, **environ})


def settled(server: ServerProcess, model: str) -> None:
    """Have the model read, and load it anew: its step is then made from how fast it reads. Then let it come to rest."""
    ask = through_the_api(server)
    for number in range(2):
        ask(prompt(f"settled {number}", WORDS[model]))
    server.post("/api/generate", {"model": "m", "keep_alive": 0, "stream": False})
    ask(prompt("loaded", 20))
    time.sleep(_REST_S)


def load_s(server: ServerProcess, name: str) -> float:
    """Seconds until a model is ready; it is unloaded again."""
    began = time.perf_counter()
    server.post("/api/generate", {"model": name})
    took_s = time.perf_counter() - began
    server.post("/api/generate", {"model": name, "keep_alive": 0})
    while server.request("GET", "/api/ps")["models"]:
        pass
    return took_s


def build_kernels(home: Path) -> None:
    """`corral engine build` into a home; raises CalledProcessError where it cannot."""
    command = [sys.executable, "-m", "corral", "engine", "build"]
    subprocess.run(command, env={"CORRAL_HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"}, check=True)


def through_the_api(server: ServerProcess) -> Contender:
    """Measured by the client's clock, as a user feels it."""

    def ask(text: str) -> tuple[float, float]:
        options = {"temperature": 0, "num_predict": ANSWER_TOKENS, "num_ctx": 4096, "repeat_penalty": 1.0}
        began, times = time.perf_counter(), []
        body = {"model": "m", "prompt": text, "raw": True, "options": options}
        read = 0
        for line in server.stream("/api/generate", body):
            times.append(time.perf_counter())
            read = line.get("prompt_eval_count", read)
        return read / (times[0] - began), _rate(times[:-1])

    return ask


def from_the_runner(server: ServerProcess) -> Contender:
    """The same straight from the server's runner, which must be loaded."""
    (path,) = (server.home.parent / "run").rglob("*.sock")
    return from_a_server(lambda: SocketConnection(path))


def from_a_server(connect: Callable[[], http.client.HTTPConnection]) -> Contender:
    """The same from any llama-server."""

    def ask(text: str) -> tuple[float, float]:
        body = {"prompt": text, "n_predict": ANSWER_TOKENS, "temperature": 0, "stream": True, "ignore_eos": True}
        connection = connect()
        began, times, read = time.perf_counter(), [], 0
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        while line := response.readline():
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                times.append(time.perf_counter())
                read = event.get("tokens_evaluated", read)
        connection.close()
        return read / (times[0] - began), _rate(times[:-1])

    return ask


def _rate(times: list[float]) -> float:
    return (len(times) - 1) / (times[-1] - times[0])


def compare(contenders: Mapping[str, Contender], model: str, rounds: int = ROUNDS) -> dict[str, Speed]:
    """Each in turn, once unmeasured and then `rounds` times, in changing order, each time with a new prompt."""
    speeds = {name: Speed() for name in contenders}
    for turn in range(rounds + 1):
        names = list(contenders)
        for name in reversed(names) if turn % 2 else names:
            reading, answering = contenders[name](prompt(f"{name} {turn}", WORDS[model]))
            if turn:
                speeds[name].reading.append(reading)
                speeds[name].answering.append(answering)
    return speeds
