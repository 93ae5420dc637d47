"""Pieces that come fast are read together; slow ones, the end and a break at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from tests.unit.runner.test_engine_stream import HEAD, Engine, calling, chunk

from corral.runner import gathering
from corral.runner.stream import EngineStream

RUNNERS: list[Callable[[Awaitable[None]], None]] = [asyncio.run, uvloop.run]  # type: ignore[list-item]
pytestmark = pytest.mark.parametrize("run", RUNNERS, ids=["asyncio", "uvloop"])
Run = Callable[[Awaitable[None]], None]
LONG_S = 20.0  # a rest that would not end in time


def writing(pieces: int, every_s: float, last: bytes = b"0\r\n\r\n") -> Engine:
    """An engine that writes so many pieces after the first, one every so many seconds."""

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"first"))
        for _ in range(pieces):
            await asyncio.sleep(every_s)
            writer.write(chunk(b"x"))
        writer.write(last)

    return engine


async def rest_of(
    stream: EngineStream, every_s: float = gathering.GATHER_S, rounds: gathering.Rounds | None = None
) -> list[bytes]:
    """All reads up to the end, after the first."""
    assert await stream.read() == b"first"
    stream.gather(rounds or gathering.Rounds(), every_s)
    reads = []
    while data := await stream.read():
        reads.append(data)
    return reads


def test_fast_pieces_are_read_together(tmp_path: Path, run: Run) -> None:
    engine = writing(60, 0.005)

    async def main() -> None:
        async with calling(tmp_path, engine) as stream:
            reads = await rest_of(stream)
            assert b"".join(reads) == 60 * b"x"
            assert len(reads) <= 30

    run(main())


def test_slow_pieces_are_read_as_they_come(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "GATHER_S", LONG_S)

    engine = writing(5, 0.03)

    async def main() -> None:
        async with calling(tmp_path, engine) as stream:
            assert await asyncio.wait_for(rest_of(stream), LONG_S / 2) == 5 * [b"x"]

    run(main())


def test_slow_pieces_of_an_answer_that_nobody_sees_before_its_end_are_read_together(tmp_path: Path, run: Run) -> None:
    engine = writing(20, 0.03)

    async def main() -> None:
        async with calling(tmp_path, engine) as stream:
            reads = await rest_of(stream, gathering.WHOLE_S)
            assert b"".join(reads) == 20 * b"x"
            assert len(reads) <= 10

    run(main())


def test_all_that_rest_are_looked_at_in_one_waking(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: Counter[str] = Counter()

    def count(kind: type, name: str) -> None:
        look = getattr(kind, name)

        def counted(self: object) -> None:
            looks[kind.__name__] += 1
            look(self)

        monkeypatch.setattr(kind, name, counted)

    count(gathering.Rounds, "_look")
    count(gathering.Gathering, "look")

    engine = writing(60, 0.005)

    async def main() -> None:
        rounds = gathering.Rounds()
        folders = [tmp_path / str(number) for number in range(4)]
        async with contextlib.AsyncExitStack() as streams:
            opened = []
            for folder in folders:
                folder.mkdir()
                opened.append(await streams.enter_async_context(calling(folder, engine)))
            every = [gathering.GATHER_S] * 3 + [gathering.WHOLE_S]
            readings = [rest_of(*pair, rounds) for pair in zip(opened, every, strict=True)]
            for reads in await asyncio.gather(*readings):
                assert b"".join(reads) == 60 * b"x"
        assert looks["Gathering"] >= 2.5 * looks["Rounds"]

    run(main())


@pytest.mark.parametrize("every_s", [LONG_S, 2 * LONG_S], ids=["seen", "whole"])
@pytest.mark.parametrize("last", [b"0\r\n\r\n", b""], ids=["ended", "broken off"])
def test_the_end_is_not_waited_for(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, last: bytes, every_s: float
) -> None:
    monkeypatch.setattr(gathering, "GATHER_S", LONG_S)

    engine = writing(8, 0.002, last)

    async def main() -> None:
        async with calling(tmp_path, engine) as stream:
            reading = asyncio.wait_for(rest_of(stream, every_s), LONG_S / 2)
            if last:
                assert b"".join(await reading) == 8 * b"x"
            else:
                with pytest.raises(ConnectionError):
                    await reading

    run(main())


def test_an_answer_that_becomes_slow_is_read_as_it_comes_again(tmp_path: Path, run: Run) -> None:
    came: list[float] = []

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"first"))
        for _ in range(8):
            await asyncio.sleep(0.002)
            writer.write(chunk(b"fast"))
        await asyncio.sleep(5 * gathering.GATHER_S)
        for _ in range(5):
            came.append(time.perf_counter())
            writer.write(chunk(b"slow"))
            await asyncio.sleep(0.05)
        writer.write(b"0\r\n\r\n")

    async def main() -> None:
        async with calling(tmp_path, engine) as stream:
            late: list[float] = []
            while data := await stream.read():
                stream.gather(gathering.Rounds(), gathering.GATHER_S)
                if data == b"slow":
                    late.append(time.perf_counter() - came[len(late)])
            assert len(late) == 5
            assert sorted(late)[2] < gathering.GATHER_S / 2

    run(main())


def test_a_large_answer_waits_for_who_does_not_read(tmp_path: Path, run: Run) -> None:
    written = 0

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(HEAD + chunk(b"first"))
        for _ in range(4):
            await asyncio.sleep(0.005)
            writer.write(chunk(bytes(2**18)))
        for _ in range(60):
            writer.write(chunk(bytes(2**18)))
            await writer.drain()
            written += 1
        writer.write(b"0\r\n\r\n")

    async def main() -> None:
        async with calling(tmp_path, engine) as stream:
            assert await stream.read() == b"first"
            stream.gather(gathering.Rounds(), gathering.GATHER_S)
            before = -1
            while before != written:  # until nothing moves any more
                before = written
                await asyncio.sleep(0.1)
            assert written < 32
            size = 0
            while data := await stream.read():
                size += len(data)
            assert size == 2**24

    run(main())


def test_leaving_in_the_midst_leaves_nothing_open(tmp_path: Path, run: Run) -> None:
    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"first"))
        while not reader.at_eof():
            await asyncio.sleep(0.002)
            writer.write(chunk(b"x"))
            await writer.drain()

    async def main() -> None:
        counts = []
        for _ in range(4):
            async with calling(tmp_path, engine) as stream:
                assert await stream.read() == b"first"
                stream.gather(gathering.Rounds(), gathering.GATHER_S)
                for _ in range(3):
                    assert await stream.read()
            (tmp_path / "s.sock").unlink(missing_ok=True)
            await asyncio.sleep(0.1)
            counts.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208  a count, no paths
        assert counts[-1] == counts[0]

    run(main())
