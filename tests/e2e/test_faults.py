"""Runners and servers that die, hang and leave: what a client sees, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.processes import children, is_alive, open_files, until

pytestmark = pytest.mark.e2e

Serve = Callable[..., ServerProcess]
COUNT = {
    "model": "smollm2",
    "raw": True,
    "prompt": "Numbers: 1, 2, 3, 4, 5, 6,",
    "options": {"temperature": 0, "num_predict": 2000},
}
CHANCE = COUNT | {"options": {"temperature": 0.8, "num_predict": 2000}}  # which nobody can make again
ENCOUNTERED = "an error was encountered while running the model: "


class Reader(threading.Thread):
    """Reads a stream in the background: `lines` so far, `error` when it was refused."""

    def __init__(self, server: ServerProcess, body: dict[str, Any], path: str = "/api/generate") -> None:
        super().__init__(daemon=True)
        self.lines: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self._events = server.stream(path, body)
        self.start()

    def run(self) -> None:
        try:
            for line in self._events:
                self.lines.append(line)
        except (OSError, ValueError) as error:
            self.error = error

    def begun(self) -> Reader:
        """Wait for the first lines."""
        until(lambda: len(self.lines) > 2 or self.error, 60, "the first tokens")
        return self

    def end(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """The last line."""
        self.join(timeout_s)
        assert not self.is_alive(), "the stream never ended"
        assert self.lines, self.error
        return self.lines[-1]


def runner_of(server: ServerProcess) -> int:
    """The process id of the only runner."""
    (pid,) = children(server.pid)
    return pid


def answers(server: ServerProcess) -> bool:
    """Whether a short request is served."""
    done = server.post("/api/generate", {**COUNT, "options": {"num_predict": 3, "temperature": 0}})
    return bool(done["done"]) and done["eval_count"] == 3


def test_a_runner_killed_while_it_answers_ends_the_stream_with_an_error_and_the_next_request_works(
    serve: Serve, runtime_dir: Path
) -> None:
    server = serve()
    assert answers(server)
    files = open_files(server.pid)
    for _ in range(2):
        reader = Reader(server, CHANCE).begun()
        victim = runner_of(server)
        os.kill(victim, signal.SIGKILL)
        last = reader.end()
        assert last["error"].startswith(ENCOUNTERED), last
        assert "signal 9" in last["error"]
        assert answers(server)
        assert not is_alive(victim)
        assert len(children(server.pid)) == 1, "the dead runner was not reaped"
    until(lambda: open_files(server.pid) <= files + 1, 5, "file descriptors back to what they were")
    assert len(list(runtime_dir.glob("corral-*/*/s.sock"))) == 1


LONG = {"type": "array", "items": {"type": "integer"}, "minItems": 50}


def test_what_was_not_left_to_chance_goes_on_with_another_runner_to_the_same_end(serve: Serve) -> None:
    server = serve()
    chat: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Count."}], "format": LONG}
    asked = [
        ("/api/generate", COUNT | {"options": {"num_predict": 80, "temperature": 0}}),
        ("/api/generate", COUNT | {"options": {"num_predict": 80, "seed": 3}}),
        ("/api/chat", chat | {"options": {"num_predict": 80, "temperature": 0}}),
    ]
    for path, body in asked:
        expected = Reader(server, body, path)
        whole = expected.end()
        interrupted = Reader(server, body, path).begun()
        (row,) = server.request("GET", "/api/ps?verbose=1")["models"]
        os.kill(row["pid"], signal.SIGKILL)
        last = interrupted.end()
        assert text_of(interrupted.lines) == text_of(expected.lines)
        assert (last["done_reason"], last["eval_count"]) == (whole["done_reason"], whole["eval_count"])
        until(lambda pid=row["pid"]: not is_alive(pid), 5, "the killed runner to be reaped")  # type: ignore[misc]
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as metrics:
        assert b'corral_resumed_answers_total{outcome="went on"} 3.0' in metrics.read()


def text_of(lines: list[dict[str, Any]]) -> str:
    """An answer's text."""
    return "".join(line.get("response", "") or line.get("message", {}).get("content", "") for line in lines)


def test_a_request_that_is_not_streamed_gets_a_500_when_its_runner_is_killed(serve: Serve) -> None:
    server = serve()
    assert answers(server)
    seen: list[urllib.error.HTTPError] = []

    def ask() -> None:
        with pytest.raises(urllib.error.HTTPError) as caught:
            server.post("/api/generate", CHANCE)
        seen.append(caught.value)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: server.request("GET", "/api/requests")["requests"], 10, "the request to run")
    os.kill(runner_of(server), signal.SIGKILL)
    asking.join(30)
    assert [error.code for error in seen] == [500]
    assert ENCOUNTERED in seen[0].read().decode()
    seen[0].close()


def test_a_runner_killed_while_idle_is_replaced_by_the_next_request(serve: Serve) -> None:
    server = serve()
    assert answers(server)
    victim = runner_of(server)
    os.kill(victim, signal.SIGKILL)
    until(lambda: not server.request("GET", "/api/ps")["models"], 5, "ps without the dead runner")
    assert not children(server.pid)
    assert answers(server)
    assert runner_of(server) != victim


def test_requests_that_wait_survive_the_death_of_the_runner_they_wait_for(serve: Serve) -> None:
    server = serve(NUM_PARALLEL=1)
    first = Reader(server, CHANCE).begun()
    short = {**COUNT, "options": {"num_predict": 3, "temperature": 0}}
    waiting = [Reader(server, short) for _ in range(3)]
    until(lambda: len(server.request("GET", "/api/requests")["requests"]) == 4, 10, "three in the queue")
    os.kill(runner_of(server), signal.SIGKILL)
    assert first.end()["error"].startswith(ENCOUNTERED)
    assert [reader.end()["eval_count"] for reader in waiting] == [3, 3, 3]


def test_a_stopped_runner_is_noticed_killed_and_replaced(serve: Serve) -> None:
    server = serve(HANG_TIMEOUT="2s")
    reader = Reader(server, COUNT).begun()
    victim = runner_of(server)
    os.kill(victim, signal.SIGSTOP)
    stopped = time.monotonic()
    last = reader.end(30)
    assert "made no progress for 2 s" in last["error"]
    assert time.monotonic() - stopped < 15
    assert not is_alive(victim)
    assert answers(server)


def test_a_killed_server_takes_its_runner_along_and_the_next_one_sweeps_what_it_left(
    serve: Serve, runtime_dir: Path
) -> None:
    first = serve()
    reader = Reader(first, COUNT).begun()
    runner = runner_of(first)
    (left,) = runtime_dir.iterdir()
    first.stop(signal.SIGKILL)
    until(lambda: not is_alive(runner), 5, "the runner to die with its server")
    reader.join(10)
    assert not reader.is_alive()
    assert left.exists(), "a killed server cannot tidy up"
    second = serve()
    assert answers(second)
    assert not left.exists()
    assert second.stop() == 0
    assert list(runtime_dir.iterdir()) == []
