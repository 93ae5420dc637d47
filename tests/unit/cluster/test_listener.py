"""Nothing is given without the token; heads and their number are bounded; blobs go out whole or in ranges."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.cluster import listener as module
from corral.cluster.listener import Head, Listener, read_line
from corral.cluster.sharing import BlobShare
from corral.names import Digest

DIGEST = Digest("a" * 64)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    listening = Listener()
    await listening.listen("127.0.0.1")
    yield listening
    await listening.close()


async def ask(listener: Listener, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    try:
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def hello(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"hello {head.method} {head.path}".encode())


def head(token: str, path: str = "/x", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{more}\r\n".encode()


async def test_a_token_leads_to_its_handler_until_it_is_forgotten(listener: Listener) -> None:
    token = listener.admit(hello)
    assert await ask(listener, head(token)) == b"hello GET /x"
    listener.forget(token)
    assert b" 401 " in await ask(listener, head(token))


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"401"),
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer \r\n\r\n", b"401"),
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer \xc3\xa4\r\n\r\n", b"401"),
        (b"GET / HTTP/1.1\r\nAuthorization: Basic x\r\n\r\n", b"401"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"400"),
        (b"x" * 300_000, b"400"),
    ],
)
async def test_what_shows_no_token_gets_nothing(listener: Listener, raw: bytes, status: bytes) -> None:
    listener.admit(hello)
    answer = await ask(listener, raw)
    assert answer.split(b" ")[1] == status
    assert b"hello" not in answer


async def test_a_refusal_reaches_who_is_still_sending(listener: Listener) -> None:
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    for _ in range(5):
        await asyncio.sleep(0.02)
        writer.write(b"x" * 1000)
    assert b" 401 " in await asyncio.wait_for(reader.read(), 5)
    await close(writer)


async def test_who_goes_on_sending_after_a_refusal_is_cut_off(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LINGER_S", 0.05)
    _, writer = await asyncio.open_connection(listener.host, listener.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")

    async def send_on() -> None:
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_on(), 5)
    await close(writer)


async def test_who_says_nothing_is_cut_off(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEAD_S", 0.05)
    assert await ask(listener, b"GET / HTTP/1.1\r\n") == b""


async def test_connections_are_counted(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    token = listener.admit(hello)
    _, writer = await asyncio.open_connection(listener.host, listener.port)
    await asyncio.sleep(0.05)
    with contextlib.suppress(ConnectionResetError):  # closed with what was sent unread
        assert b" 503 " in await ask(listener, head(token))
    await close(writer)


async def test_lines_are_bounded() -> None:
    reader = asyncio.StreamReader(limit=16)
    reader.feed_data(b"short\n" + b"l" * 40 + b"\n" + b"m" * 200 + b"\n")
    reader.feed_eof()
    assert await read_line(reader, 100) == b"short\n"
    assert await read_line(reader, 100) == b"l" * 40 + b"\n"
    assert await read_line(reader, 100) == b""


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(bytes(range(256)) * 10)
    return path


async def test_blobs_are_sent_whole_and_in_ranges(listener: Listener, blob: Path) -> None:
    share = BlobShare(lambda digest: blob if digest == DIGEST else None)
    token, data = listener.admit(share.serve), blob.read_bytes()
    path = f"/v2/cluster/node/blobs/{DIGEST}"
    whole = await ask(listener, head(token, path))
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert whole.partition(b"\r\n\r\n")[2] == data
    part = await ask(listener, head(token, path, "Range: bytes=100-199\r\n"))
    assert part.startswith(b"HTTP/1.1 206 ")
    assert b"Content-Range: bytes 100-199/2560" in part
    assert part.partition(b"\r\n\r\n")[2] == data[100:200]
    assert b" 416 " in await ask(listener, head(token, path, "Range: bytes=9999-99999\r\n"))


@pytest.mark.parametrize("path", ["/", "/v2/cluster/node/blobs/sha256:" + "b" * 64, "/v2/cluster/node/blobs/../../x"])
async def test_nothing_else_is_sent(listener: Listener, blob: Path, path: str) -> None:
    token = listener.admit(BlobShare(lambda digest: blob if digest == DIGEST else None).serve)
    assert b" 404 " in await ask(listener, head(token, path))
