"""`corral run` starts a server when none answers: it waits for an answer, and says why when none comes."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.native_api import FakeApi, Reply

from corral.cli.background import ServerDidNotStart, start_server
from corral.cli.console import Console
from corral.cli.context import Context
from corral.cli.flags import Parsed
from corral.config import Settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def context(tmp_path: Path, port: int) -> Context:
    environ = {"HOME": str(tmp_path), "CORRAL_HOME": str(tmp_path / "home"), "CORRAL_HOST": f"127.0.0.1:{port}"}
    console = Console(io.StringIO(), io.StringIO(), io.StringIO())
    return Context(Settings.from_env(environ), Parsed(), console)


def child(code: str, started: list[subprocess.Popen[bytes]]) -> Callable[[Path], subprocess.Popen[bytes]]:
    def launch(log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            process = subprocess.Popen([sys.executable, "-c", code], stdout=output, stderr=output)
        started.append(process)
        return process

    return launch


def test_a_server_that_exits_is_reported_with_its_last_words(tmp_path: Path) -> None:
    launch = child("import sys; print('one'); sys.exit('no such device')", [])
    with pytest.raises(ServerDidNotStart) as caught:
        start_server(context(tmp_path, free_port()), launch)
    log = tmp_path / "home" / "logs" / "server.log"
    assert str(caught.value) == (f"the corral server exited with status 1; its log is {log}:\n  one\n  no such device")


def test_a_server_that_is_never_ready_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []
    launch = child("import time; time.sleep(60)", started)
    with pytest.raises(ServerDidNotStart, match=r"was not ready after 0\.2 s"):
        start_server(context(tmp_path, free_port()), launch, deadline_s=0.2)
    assert started[0].returncode is not None


def test_another_server_that_answers_first_is_good_enough(api: FakeApi, tmp_path: Path) -> None:
    api.routes["GET /api/version"] = Reply({"version": "1"})
    started: list[subprocess.Popen[bytes]] = []
    start_server(context(tmp_path, api.port), child("raise SystemExit(1)", started))
    started[0].wait()
    assert api.requests == [("GET /api/version", None)]


def test_a_long_log_is_put_aside(api: FakeApi, tmp_path: Path) -> None:
    api.routes["GET /api/version"] = Reply({"version": "1"})
    log = tmp_path / "home" / "logs" / "server.log"
    log.parent.mkdir(parents=True)
    with log.open("wb") as file:
        file.truncate(11 * 2**20)
    started: list[subprocess.Popen[bytes]] = []
    start_server(context(tmp_path, api.port), child("print('new')", started))
    started[0].wait()
    assert log.read_text() == "new\n"
    assert log.with_name("server.log.1").stat().st_size == 11 * 2**20
