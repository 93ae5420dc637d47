"""The wall clock may jump (NTP, suspend, an operator's mistake): nothing that is decided depends on it."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.sched.clock import LoopClock

DECIDING = ("sched", "runner", "inference")  # what expires, hangs, times out or waits its turn is decided here
TELLS_THE_TIME = {"sched/listing.py"}  # expires_at of /api/ps is for people
WALL = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}


def wall_clock_reads(path: Path) -> Iterator[str]:
    """Each use of the wall clock in a source file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if (owner, node.attr) in WALL:
                yield f"{path.name}:{node.lineno} {owner}.{node.attr}"


def test_nothing_is_decided_by_the_wall_clock() -> None:
    root = Path(corral.__file__).parent
    sources = [path for folder in DECIDING for path in (root / folder).rglob("*.py")]
    assert len(sources) > 40
    found = [
        use for path in sources if str(path.relative_to(root)) not in TELLS_THE_TIME for use in wall_clock_reads(path)
    ]
    assert found == []


def test_the_search_for_the_wall_clock_finds_it(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text("import time, datetime\na = time.time()\nb = datetime.datetime.now()\nc = time.monotonic()\n")
    assert list(wall_clock_reads(source)) == ["x.py:2 time.time", "x.py:3 datetime.now"]


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_the_schedulers_time_goes_on_when_the_wall_clock_jumps(
    monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    clock, before, wall = LoopClock(), LoopClock().now(), time.time()
    monkeypatch.setattr(time, "time", lambda: wall + jump_s)
    assert abs(time.time() - wall) > 86_000
    assert 0 <= clock.now() - before < 10
