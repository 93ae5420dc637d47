"""The chat, a pull's bar and `ps --watch` in a real terminal emulator, at 80 by 24 and at 40 by 10."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.native_api import FakeApi, Reply, serving
from tests.fakes.tmux import in_tmux

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux")]
SIZES = pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10)])
CORRAL = (sys.executable, "-m", "corral")
TEXT = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore. END"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A scripted server with a model that always says the same."""
    pieces: list[dict[str, Any]] = [{"message": {"content": f"{word} "}} for word in TEXT.split()]
    routes = {
        "POST /api/show": Reply({"capabilities": ["completion"], "details": {}}),
        "POST /api/generate": Reply(stream=[{"done": True, "done_reason": "load"}]),
        "POST /api/chat": Reply(stream=[*pieces, {"done": True}]),
        "GET /api/tags": Reply({"models": [{"name": "smollm2:135m"}]}),
    }
    with serving(FakeApi(routes=dict(routes))) as running:
        yield running


@pytest.fixture
def environ(api: FakeApi, tmp_path: Path) -> dict[str, str]:
    """What the program's environment is, whole."""
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "tmux-256color", "LANG": "C.UTF-8"}
    return {**base, "CORRAL_HOME": str(tmp_path / "home"), **api.environ}


@SIZES
def test_a_chat_wraps_between_words_completes_and_stays_in_its_place(
    environ: dict[str, str], columns: int, lines: int
) -> None:
    with in_tmux((*CORRAL, "run", "m"), environ, columns, lines) as pane:
        pane.wait_for(">>> ")
        pane.keys("hello", "Enter")
        screen = pane.wait_for("END")
        shown = screen[screen.index("Lorem") : screen.index("END")]
        assert shown.split() == TEXT.split()[:-1]  # no word is broken, none is there twice
        assert max(len(line.rstrip()) for line in shown.splitlines()) <= columns - 4
        pane.keys("/reg", "Tab")
        pane.wait_for(">>> /regenerate")
        pane.keys("C-u", "/load smo", "Tab")
        pane.wait_for("/load smollm2:135m")
        pane.keys("C-u", "/bye", "Enter")
        pane.wait_for_end()


@SIZES
def test_a_pull_has_one_line_that_moves(api: FakeApi, environ: dict[str, str], columns: int, lines: int) -> None:
    go_on = threading.Event()

    def pulling() -> Iterator[dict[str, Any]]:
        yield {"status": "pulling manifest"}
        for done in range(1, 9):
            total = {"digest": f"sha256:{'ab' * 32}", "total": 80_000_000, "completed": done * 10_000_000}
            yield {"status": "pulling abababababab", **total}
            threading.Event().wait(0.15)
        go_on.wait(20)
        yield {"status": "success"}

    api.routes["POST /api/pull"] = Reply(stream=pulling())
    with in_tmux((*CORRAL, "pull", "hf.co/x/y"), environ, columns, lines) as pane:
        screen = pane.wait_for("100%")
        assert screen.count("pulling abababababab") == 1
        assert screen.count("pulling manifest") == 1
        go_on.set()
        pane.wait_for_end()


@SIZES
def test_ps_is_shown_anew_every_second_until_ctrl_c(
    api: FakeApi, environ: dict[str, str], columns: int, lines: int
) -> None:
    looks: list[int] = []

    def running(_: Any) -> Reply:
        looks.append(1)
        return Reply({"models": [{"name": f"look{len(looks)}", "size": 1, "context_length": 4096}]})

    api.routes["GET /api/ps"] = running
    with in_tmux((*CORRAL, "ps", "--watch"), environ, columns, lines) as pane:
        pane.wait_for("look1")
        screen = pane.wait_for("look3", gone=["look1", "look2"])
        assert screen.count("NAME") == 1
        pane.keys("C-c")
        pane.wait_for_end()
