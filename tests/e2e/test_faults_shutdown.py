"""Stopping and starting servers: drain, haste, and what is loaded again; the settings that say so are wired."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.processes import children, is_alive, until
from tests.fakes.rawclient import RawClient

pytestmark = pytest.mark.e2e

Serve = Callable[..., ServerProcess]
COUNT: dict[str, Any] = {
    "model": "smollm2",
    "raw": True,
    "prompt": "Numbers: 1, 2, 3, 4, 5, 6,",
    "options": {"temperature": 0, "num_predict": 2000},
}
TINY = {"model": "tiny", "prompt": "hello", "options": {"num_predict": 4, "seed": 1}}


def loaded(server: ServerProcess) -> dict[str, dict[str, Any]]:
    """GET /api/ps by name."""
    return {row["name"]: row for row in server.request("GET", "/api/ps")["models"]}


def seconds_left(server: ServerProcess, name: str) -> float:
    """How long a loaded model will stay, if nobody asks for it."""
    text: str = loaded(server)[name]["expires_at"]
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() - time.time()


def is_running(server: ServerProcess) -> bool:
    return any(row["state"] == "running" for row in server.request("GET", "/api/requests")["requests"])


def test_sigterm_lets_requests_in_flight_end_and_exits_with_0(serve: Serve) -> None:
    server = serve()
    body = {**COUNT, "options": {"temperature": 0, "num_predict": 120}}
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(server.post, "/api/generate", body)
        lines = pool.submit(lambda: list(server.stream("/api/generate", body)))
        until(lambda: is_running(server), 20, "the requests to run")
        runners = children(server.pid)
        server.process.send_signal(signal.SIGTERM)
        assert whole.result(60)["eval_count"] == 120
        assert lines.result(60)[-1]["eval_count"] == 120
    assert server.process.wait(15) == 0
    assert not [pid for pid in runners if is_alive(pid)]


def test_sigterm_takes_no_new_connections(serve: Serve) -> None:
    server = serve()
    with RawClient(server.port) as client:
        client.post("/api/generate", COUNT)
        client.receive()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not accepts(server), 5, "the listener to close")
        assert server.process.poll() is None, "it waits for the request in flight"
        client.vanish()
        assert server.process.wait(15) == 0


def accepts(server: ServerProcess) -> bool:
    """Whether a new connection is served."""
    try:
        server.request("GET", "/api/version", timeout_s=2)
    except OSError:
        return False
    return True


def test_the_drain_is_bounded_and_what_is_left_is_told(serve: Serve) -> None:
    server = serve(DRAIN_TIMEOUT="1s")
    with RawClient(server.port) as client:
        client.post("/api/generate", COUNT)
        client.receive()
        runners = children(server.pid)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        answer = client.receive_answer()
        assert server.process.wait(15) == 0
        assert time.monotonic() - began < 8
    assert b'{"error":"' in answer, answer[-300:]
    assert not [pid for pid in runners if is_alive(pid)]


def test_a_second_signal_exits_at_once(serve: Serve) -> None:
    server = serve()
    with RawClient(server.port) as client:
        client.post("/api/generate", COUNT)
        client.receive()
        runners = children(server.pid)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not accepts(server), 5, "the first signal to be taken")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        assert time.monotonic() - began < 5
    assert not [pid for pid in runners if is_alive(pid)]


def test_a_half_open_connection_does_not_hold_up_the_end(serve: Serve) -> None:
    server = serve()
    with RawClient(server.port) as idle, RawClient(server.port) as half:
        idle.post("/api/show", {"model": "tiny"})
        idle.receive_answer()
        half.socket.sendall(b"POST /api/chat HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5


def test_keep_alive_keeps_within_floor_and_ceiling(serve: Serve) -> None:
    server = serve(KEEP_ALIVE_MIN="100s", KEEP_ALIVE_MAX="200s")
    server.post("/api/generate", {**TINY, "keep_alive": "1s"})
    assert 90 < seconds_left(server, "tiny:latest") <= 100.5
    server.post("/api/generate", {**TINY, "keep_alive": -1})
    assert 190 < seconds_left(server, "tiny:latest") <= 200.5


def test_keep_alive_of_the_server_holds_when_a_request_names_none(serve: Serve) -> None:
    server = serve(KEEP_ALIVE="1s")
    server.post("/api/generate", TINY)
    assert seconds_left(server, "tiny:latest") <= 1.5
    until(lambda: not loaded(server), 10, "the model to go by itself")
    assert not children(server.pid)


def test_a_pinned_model_stays_whatever_its_requests_say(serve: Serve) -> None:
    server = serve(PIN="tiny", KEEP_ALIVE_MAX="200s")
    server.post("/api/generate", {**TINY, "keep_alive": "1s"})
    assert seconds_left(server, "tiny:latest") > 10 * 365 * 86400


def test_preloaded_models_are_there_without_a_request(serve: Serve) -> None:
    server = serve(PRELOAD="nosuchmodel,tiny")
    until(lambda: set(loaded(server)) == {"tiny:latest"}, 20, "tiny to be loaded at start")
    assert any("nosuchmodel" in line for line in server.log)


def test_what_was_loaded_at_the_last_stop_is_loaded_again(serve: Serve) -> None:
    first = serve(RESTORE="true")
    first.post("/api/generate", {**TINY, "keep_alive": -1})
    assert first.stop() == 0
    second = serve(RESTORE="true")
    until(lambda: set(loaded(second)) == {"tiny:latest"}, 20, "tiny to be loaded again")
    assert seconds_left(second, "tiny:latest") > 10 * 365 * 86400
    second.stop()
    third = serve()
    assert not loaded(third)


def test_the_store_is_cleaned_at_start(serve: Serve, tmp_path: Path) -> None:
    serve().stop()
    blobs = tmp_path / "models" / "blobs"
    old, fresh = (blobs / f"sha256-{c * 64}" for c in "ab")
    temp = blobs / "corral-tmp-dead"
    for path in (old, fresh, temp):
        path.write_bytes(b"nobody needs this")
    os.utime(old, (0, 0))
    server = serve()
    assert not old.exists(), "an old blob that no model uses stays"
    assert not temp.exists(), "nobody is writing it"
    assert fresh.exists(), "a fresh upload is within its grace"
    assert server.post("/api/generate", TINY)["done"]
    server.stop()
    os.utime(fresh, (0, 0))
    serve(NOPRUNE="true")
    assert fresh.exists()


def test_the_go_template_setting_reaches_the_store(serve: Serve) -> None:
    body = {"model": "tiny", "from": "tiny", "template": "GO {{ .Prompt }}"}
    server = serve()
    server.post("/api/create", {**body, "model": "both"})
    ask = {"model": "both", "messages": [{"role": "user", "content": "x"}], "_debug_render_only": True}

    def rendered(where: ServerProcess) -> str:
        text: str = where.post("/api/chat", ask)["_debug_info"]["rendered_template"]
        return text

    with_default = rendered(server)
    server.stop()
    assert rendered(serve(GO_TEMPLATE="true")).startswith("GO x")
    assert with_default != rendered(serve(GO_TEMPLATE="false"))


def test_a_taken_port_is_said_and_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    env = {**os.environ, "CORRAL_HOST": f"127.0.0.1:{server.port}", "CORRAL_HOME": str(tmp_path / "other")}
    done = subprocess.run(
        [sys.executable, "-m", "corral", "serve"], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr
