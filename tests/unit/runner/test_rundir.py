"""The runtime directory: private, short enough for sockets, swept when its server died."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.runner.rundir import RuntimeDir, sweep


@pytest.fixture
def base() -> Iterator[Path]:
    """pytest's own folders are too long for a socket path."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="b") as folder:
        yield Path(folder)


def test_it_is_private_and_goes_away(base: Path) -> None:
    runtime = RuntimeDir(base)
    assert runtime.path.parent == base
    assert stat.S_IMODE(runtime.path.stat().st_mode) == 0o700
    assert runtime.next() != runtime.next()
    runtime.close()
    assert list(base.iterdir()) == []


def test_a_dead_servers_directory_is_swept_and_a_living_ones_is_not(base: Path) -> None:
    living = RuntimeDir(base)
    dead = base / "corral-dead"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "3").mkdir()
    starting = base / "corral-starting"
    starting.mkdir()  # no lock yet
    assert sweep(base) == 1
    assert not dead.exists()
    assert living.path.exists()
    assert starting.exists()
    living.close()


def test_a_parent_too_long_for_a_socket_is_not_used(base: Path) -> None:
    long = base / ("x" * 90)
    long.mkdir()
    runtime = RuntimeDir(long)
    assert len(os.fsencode(runtime.next() / "s.sock")) < 104
    runtime.close()
