"""An answer read straight from an engine's socket: in pieces, held up when nobody reads, told when it breaks off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from corral.runner.endpoint import UnixSocket
from corral.runner.stream import EngineStream

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Engine = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def calling(folder: Path, engine: Engine) -> AsyncIterator[EngineStream]:
    """A call to an engine that has read the request's head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await engine(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(serve, folder / "s.sock")
    stream = await UnixSocket(folder / "s.sock").stream()
    try:
        stream.send("/completion", b"{}", {"X-Token": "t"})
        yield stream
    finally:
        stream.close()
        server.close()
        await server.wait_closed()


async def test_a_body_comes_as_it_is_written(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"one"))
        await go_on.wait()
        writer.write(chunk(b"two") + chunk(b"three") + b"0\r\n\r\n")

    async with calling(tmp_path, engine) as stream:
        assert await stream.head() == 200
        assert await stream.read() == b"one"
        go_on.set()
        assert await stream.read() + await stream.read() == b"twothree"
        assert await stream.read() == b""


async def test_interim_answers_say_nothing_yet(tmp_path: Path) -> None:
    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(400):  # more than one head may be
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        writer.write(HEAD + chunk(b"one") + b"0\r\n\r\n")
        await writer.drain()

    async with calling(tmp_path, engine) as stream:
        assert await stream.head() == 200
        assert await stream.read() == b"one"
        assert await stream.read() == b""


async def test_what_came_before_a_break_is_read_first(tmp_path: Path) -> None:
    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"one"))

    async with calling(tmp_path, engine) as stream:
        assert await stream.read() == b"one"
        with pytest.raises(ConnectionError):
            await stream.read()


async def test_an_engine_waits_for_a_server_that_does_not_read(tmp_path: Path) -> None:
    written = 0

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(HEAD)
        for _ in range(64):
            writer.write(chunk(bytes(2**18)))
            await writer.drain()
            written += 1
        writer.write(b"0\r\n\r\n")

    async with calling(tmp_path, engine) as stream:
        await stream.head()
        before = -1
        while before != written:  # until nothing moves any more
            before = written
            await asyncio.sleep(0.05)
        assert written < 32
        size = 0
        while data := await stream.read():
            size += len(data)
        assert size == 2**24


async def test_leaving_closes_the_connection(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await reader.read()
        left.set()

    async with calling(tmp_path, engine) as stream:
        await stream.head()
        stream.close()
        await asyncio.wait_for(left.wait(), 5)
        with pytest.raises(ConnectionError):
            await stream.read()
