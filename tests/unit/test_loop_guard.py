"""The guard in tests/fakes/blocking.py sees what it is there to see, and lets a test arrange its files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockingError

import corral
from corral.aio import run_blocking


def in_corral(source: str, name: str) -> Callable[[Path], Any]:
    """A function that looks as if it stood in the package."""
    made: dict[str, Any] = {}
    exec(compile(source, str(Path(corral.__file__).parent / "made.py"), "exec"), made)
    function: Callable[[Path], Any] = made[name]
    return function


async def test_a_coroutine_of_ours_may_not_read_a_file(tmp_path: Path) -> None:
    read: Callable[[Path], Awaitable[str]] = in_corral("async def read(path): return path.read_text()", "read")
    (tmp_path / "x").write_text("x")
    with pytest.raises(BlockingError):
        await read(tmp_path / "x")


async def test_the_same_code_may_on_the_executor_and_when_a_test_calls_it(tmp_path: Path) -> None:
    read = in_corral("def read(path): return path.read_text()", "read")
    (tmp_path / "x").write_text("x")
    assert await run_blocking(read, tmp_path / "x") == read(tmp_path / "x") == "x"
