"""Lines from a pipe: whole, bounded, and its descriptor closed once, on both event loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from corral.runner.pipe import LONGEST_LINE, read_lines

RUNNERS: list[Callable[[Awaitable[None]], None]] = [asyncio.run, uvloop.run]  # type: ignore[list-item]
pytestmark = pytest.mark.parametrize("run", RUNNERS, ids=["asyncio", "uvloop"])
Run = Callable[[Awaitable[None]], None]


def test_lines_come_whole_however_they_were_written(run: Run) -> None:
    async def scenario() -> None:
        read_fd, write_fd = os.pipe()
        source = read_lines(read_fd)
        os.write(write_fd, b"one\ntw")
        assert await anext(source) == b"one"
        second = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0.01)
        os.write(write_fd, b"o\nunfinished")
        assert await second == b"two"
        os.close(write_fd)
        assert [line async for line in source] == []

    run(scenario())


def test_a_line_without_an_end_is_bounded(run: Run) -> None:
    async def endless() -> None:
        read_fd, write_fd = os.pipe()
        writing = asyncio.ensure_future(asyncio.to_thread(_fill, write_fd))
        with pytest.raises(ValueError, match="too long"):
            [line async for line in read_lines(read_fd)]
        await writing

    run(endless())


def _fill(fd: int) -> None:
    try:
        while True:
            os.write(fd, b"x" * LONGEST_LINE)
    except BrokenPipeError:
        os.close(fd)


def test_the_descriptor_is_closed_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread opens under the same number in between must stay open."""
    closed: list[int] = []
    close = os.close

    def close_and_reuse(fd: int) -> None:
        closed.append(fd)
        close(fd)
        assert os.open("/dev/null", os.O_RDONLY) == fd

    async def scenario() -> None:
        read_fd, write_fd = os.pipe()
        close(write_fd)
        with monkeypatch.context() as patched:
            patched.setattr(os, "close", close_and_reuse)
            assert [line async for line in read_lines(read_fd)] == []
        await asyncio.sleep(0.01)
        assert closed == [read_fd]
        os.fstat(read_fd)  # the other's file
        close(read_fd)

    run(scenario())
