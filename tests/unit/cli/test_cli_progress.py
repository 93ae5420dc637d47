"""Progress: bars and spinners on a terminal, plain lines elsewhere; time is the test's."""

from __future__ import annotations

import io
from typing import Any

import pytest
from tests.unit.cli.conftest import Terminal

from corral.cli.console import Console
from corral.cli.progress import Bar, Progress, Spinner, clipped, follow, format_remaining, show_translation
from corral.cli.table import width_of


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_running_bar_fills_the_terminal_and_shows_rate_and_time_to_go() -> None:
    clock = Clock()
    bar = Bar("pulling abababababab:", 100_000_000, 0, clock)
    bar.update(0)
    clock.now += 10
    bar.update(50_000_000)
    text = bar.text(80)
    assert text.startswith("pulling abababababab:  50% ▕")
    assert text.endswith(
        "▏  50 MB/100 MB  5 MB/s     10s".replace("  5 MB", "    5 MB").replace("     10s", "     10s")
    )
    assert len(text) == 80 - 1
    assert text.count("█") == (80 - 26 - 31 - 5) // 2


def test_a_bar_without_a_rate_and_a_finished_bar_are_as_wide() -> None:
    clock = Clock()
    bar = Bar("x", 2_000_000, 0, clock)
    bar.update(500_000)
    running = bar.text(60)
    assert running.endswith("▏ 500 KB/  2 MB" + " " * 18)
    bar.update(3_000_000)
    finished = bar.text(60)
    assert bar.stopped
    assert finished.endswith("▏   2 MB" + " " * 25)
    assert len(running) == len(finished) == 59
    assert "x 100% ▕███" in finished


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (184, "3m4s"), (7500, "2h5m"), (360_000, "99h+"), (359_999, "99h59m")]
)
def test_time_to_go(seconds: int, text: str) -> None:
    assert format_remaining(seconds) == text


def test_a_spinner_turns_ten_times_a_second_until_it_stops() -> None:
    clock = Clock()
    spinner = Spinner("verifying", clock)
    first = spinner.text(80)
    clock.now += 0.15
    assert (first, spinner.text(80)) == ("verifying ⠋ ", "verifying ⠙ ")
    spinner.stop()
    assert spinner.text(80) == "verifying "


def console(stderr: io.StringIO) -> Console:
    return Console(io.StringIO(), io.StringIO(), stderr)


def test_on_a_terminal_the_lines_are_redrawn_in_place_and_stay() -> None:
    screen = Terminal()
    with Progress(console(screen)) as progress:
        progress.status("one")
        progress.status("two")
    assert screen.getvalue().endswith("one \x1b[K\ntwo \x1b[K\x1b[?25h\x1b[?2026l\x1b[?25h\n")
    assert "\x1b[?2026h\x1b[?25l" in screen.getvalue()


def test_a_line_wider_than_the_terminal_is_cut_so_that_it_is_redrawn_in_its_place() -> None:
    assert clipped("x" * 200, 80) == "x" * 80
    assert clipped("short", 80) == "short"
    assert width_of(clipped("日本" * 60, 81)) == 80


def test_clearing_takes_the_lines_away_and_ends_the_thread() -> None:
    screen = Terminal()
    progress = Progress(console(screen))
    progress.status("")
    progress.stop(clear=True)
    assert screen.getvalue().endswith("\x1b[1G\x1b[J\x1b[?25h")
    before = screen.getvalue()
    progress.stop()
    assert screen.getvalue() == before


def test_elsewhere_each_new_status_is_one_line_and_a_spinner_without_text_is_none() -> None:
    output = io.StringIO()
    with Progress(console(output)) as progress:
        progress.status("")
        progress.status("one")
        progress.status("one")
        progress.transfer("sha256:x", "pushing x...", 1500, 0)
        progress.transfer("sha256:x", "pushing x...", 1500, 1500)
    assert output.getvalue() == "one\npushing x... 1.5 KB\n"


def test_bytes_without_a_digest_are_a_bar_of_their_own() -> None:
    output = io.StringIO()
    with Progress(console(output)) as progress:
        events: list[dict[str, Any]] = [
            {"status": "writing manifest"},
            {"status": "translating for the engine", "total": 1500},
            {"status": "translating for the engine", "total": 1500, "completed": 1500},
            {"status": "success"},
        ]
        follow(progress, events, lambda status, _: status)
    assert output.getvalue() == "writing manifest\ntranslating for the engine: 1.5 KB\nsuccess\n"


def test_a_model_that_is_translated_before_its_first_load_shows_a_bar() -> None:
    output = io.StringIO()
    with Progress(console(output)) as progress:
        show_translation(progress, {"progress": {"stage": "loading"}})
        show_translation(progress, {"response": "hi"})
        for processed in (500, 1500):
            show_translation(progress, {"progress": {"stage": "translating", "processed": processed, "total": 1500}})
    assert output.getvalue() == "translating for the engine: 1.5 KB\n"


def test_following_returns_the_warnings_of_the_end() -> None:
    warning = {"code": "insecure", "message": "plain HTTP"}
    with Progress(console(io.StringIO())) as progress:
        events: list[dict[str, Any]] = [{"status": "a"}, {"status": "success", "warnings": [warning]}]
        assert follow(progress, events, lambda status, _: status) == [warning]
