"""`corral top` in tmux, at 80 by 24 and at 40 by 10, against the scripted server."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.native_api import FakeApi, Reply, serving
from tests.fakes.tmux import in_tmux

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux")]
METRICS = 'corral_tokens_total{kind="prompt"} 1000.0\ncorral_tokens_total{kind="cached"} 680.0\n'
MODEL = {
    "name": "smollm2:135m",
    "state": "ready",
    "slots": 4,
    "active": 2,
    "threads": 2,
    "context_length": 4096,
    "memory": {"rss": 545_000_000},
    "planned": {"total": 628_000_000},
}
STATUS = {"host": {"memory": {"total": 25 * 10**9, "available": 22 * 10**9}}, "server": {"memory": 89_000_000}}


def request(ident: str, **fields: Any) -> dict[str, Any]:
    return {"id": ident, "model": "smollm2:135m", "route": "/api/chat", "state": "running", **fields}


class Busy:
    """A server with two requests that are served, whose tokens grow with every look, and one that waits."""

    def __init__(self, api: FakeApi) -> None:
        self.looks = 0
        self.here = ["one", "two", "three"]
        api.routes |= {
            "HEAD /": Reply(text="Ollama is running"),
            "GET /api/ps?verbose=1": Reply({"models": [MODEL]}),
            "GET /api/requests": self._requests,
            "GET /api/status?verbose=1": Reply(STATUS),
            "GET /metrics": Reply(text=METRICS),
            **{f"DELETE /api/requests/{ident}": self._stopping(ident) for ident in self.here},
        }

    def _requests(self, _: Any) -> Reply:
        self.looks += 1
        running = {"prompt_tokens": 30, "eval_tokens": 20 * self.looks, "running_s": 2.0 * self.looks}
        waiting = {"state": "queued", "position": 1, "wait_s": 7.4, "waited_s": 3}
        every = [request("one", **running), request("two", **running), request("three", **waiting)]
        return Reply({"requests": [each for each in every if each["id"] in self.here]})

    def _stopping(self, ident: str) -> Any:
        def stop(_: Any) -> Reply:
            self.here.remove(ident)
            return Reply({})

        return stop


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A scripted server."""
    with serving(FakeApi()) as running:
        yield running


@pytest.fixture
def environ(api: FakeApi, tmp_path: Path) -> dict[str, str]:
    """What the program's environment is, whole."""
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "tmux-256color", "LANG": "C.UTF-8"}
    return {**base, "CORRAL_HOME": str(tmp_path / "home"), **api.environ}


TOP = (sys.executable, "-m", "corral", "top")


def test_all_is_shown_at_80_by_24(api: FakeApi, environ: dict[str, str]) -> None:
    busy = Busy(api)
    with in_tmux(TOP, environ, 80, 24) as pane:
        screen = pane.wait_for("slots 2/4", "waiting 1 ≤7s", "cached 68%", "free 22 GB of 25 GB", "■■□□", "█", "q Quit")
        for words in ("545 MB of 628 MB", "in use", "window 4096", "queued, place 1, ~7s", "10.0/s", "/api/chat"):
            assert words in screen
        pane.keys("Down", "Down", "k")
        pane.wait_for("waiting 0", gone=["queued"])
        assert busy.here == ["one", "two"]
        pane.keys("q")
        pane.wait_for_end()


def test_what_weighs_less_is_left_out_at_40_by_10_and_comes_back(api: FakeApi, environ: dict[str, str]) -> None:
    Busy(api)
    with in_tmux(TOP, environ, 40, 10) as pane:
        screen = pane.wait_for("slots 2/4", "place 1, ~7s")
        lines = screen.splitlines()
        assert len(lines) <= 10
        assert all(len(line) <= 40 for line in lines)
        assert "smollm2:135m ■■□□  545 MB of 628 MB" in screen
        assert "█" not in screen  # no plots
        assert "/api/chat" not in screen
        pane.resize(80, 24)
        pane.wait_for("/api/chat", "█", "q Quit")


def test_a_server_that_goes_away_is_told_and_the_program_lives(api: FakeApi, environ: dict[str, str]) -> None:
    Busy(api)
    with in_tmux(TOP, environ, 80, 24) as pane:
        pane.wait_for("slots 2/4")
        api.routes["GET /api/requests"] = Reply({"error": "out of weather"}, status=500)
        pane.wait_for("out of weather", "slots 2/4")
        Busy(api)
        pane.wait_for("slots 2/4", gone=["out of weather"])
        pane.keys("q")
        pane.wait_for_end()
