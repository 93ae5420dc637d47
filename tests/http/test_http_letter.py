"""HTTP as RFC 9112 has it: old clients, one Host, offers of other protocols, preflights; and who is let in."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.fakes.server import RunningServer, running_server

from corral.address import Address
from corral.config import Settings
from corral.server.door import Door


async def talk(server: RunningServer, raw: bytes) -> bytes:
    """All that the server sends until it closes, or until an answer with a length is whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw)
    await writer.drain()
    try:
        async with asyncio.timeout(10):
            return await reader.read() if b"HTTP/1.0" in raw or b"close" in raw else await read_one(reader)
    finally:
        writer.close()


async def read_one(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"content-length: " in head:
        return head + await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    return head + await reader.readuntil(b"0\r\n\r\n")


def post(path: str, body: object, *headers: str, version: str = "1.1", host: str = "Host: localhost") -> bytes:
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", *([host] if host else []), f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


CHAT = {"model": "go", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_a_stream_to_an_old_client_has_no_chunks_and_ends_with_the_connection(
    server: RunningServer, path: str
) -> None:
    answer = await talk(server, post(path, {**CHAT, "stream": True, "max_tokens": 9}, version="1.0"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith((b"{", b"data: {"))]
    assert lines
    assert all(json.loads(line) for line in lines)


async def test_an_old_client_may_leave_out_host_and_gets_lengths_where_they_are_known(server: RunningServer) -> None:
    answer = await talk(server, b"GET /api/version HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: " in head
    assert "version" in json.loads(body)


@pytest.mark.parametrize("host", ["", "Host: localhost\r\nHost: localhost", "Host: localhost\r\nhost: evil.example"])
async def test_a_request_has_one_host_exactly(server: RunningServer, host: str) -> None:
    answer = await talk(server, post("/api/show", {"model": "go"}, "Connection: close", host=host))
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"Host header" in answer


@pytest.mark.parametrize(
    "offer",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        ("Connection: Upgrade", "Upgrade: websocket"),
        ("Connection: keep-alive, Upgrade", "Upgrade: nonsense/7"),
        ("Upgrade: h2c", "Connection: upgrade"),
    ],
)
async def test_an_offer_of_another_protocol_is_ignored_and_the_body_read(
    server: RunningServer, offer: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    answer = await talk(server, post("/api/show", {"model": "go"}, *offer))
    assert b" 200 " in answer.partition(b"\r\n")[0], answer
    assert b"capabilities" in answer
    assert "pgrade" not in caplog.text


async def test_an_offer_in_pieces_and_the_next_request_on_the_same_connection(server: RunningServer) -> None:
    raw = post("/api/show", {"model": "go"}, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(2):
        for start in range(0, len(raw), 7):
            writer.write(raw[start : start + 7])
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            answer = await read_one(reader)
        assert b" 200 " in answer.partition(b"\r\n")[0], answer
    writer.close()


async def test_a_chunked_body_behind_an_offer_is_read(server: RunningServer) -> None:
    data = json.dumps({"model": "go"}).encode()
    offer = b"Connection: Upgrade\r\nUpgrade: h2c"
    raw = (
        b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        + offer
        + b"\r\n\r\n"
        + b"%x\r\n" % len(data)
        + data
        + b"\r\n0\r\n\r\n"
    )
    assert b" 200 " in (await talk(server, raw)).partition(b"\r\n")[0]


async def test_a_preflight_allows_what_was_asked_for_and_pages_see_the_count_of_warnings(server: RunningServer) -> None:
    asked = "anthropic-dangerous-direct-browser-access,x-my-extension"
    headers = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
    }
    async with server.http.options(server.url + "/v1/messages", headers=headers) as answer:
        assert answer.headers["Access-Control-Allow-Headers"] == asked
    async with server.http.get(server.url + "/api/version", headers={"Origin": "http://localhost:3000"}) as answer:
        assert "X-Corral-Warnings" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    ("host", "keys", "is_open", "client", "served"),
    [
        ("0.0.0.0", (), False, "8.8.8.8", False),
        ("0.0.0.0", (), False, "2001:4860:4860::8888", False),
        ("0.0.0.0", (), False, "::ffff:8.8.8.8", False),
        ("0.0.0.0", (), False, "nonsense", False),
        ("0.0.0.0", (), False, "192.168.1.7", True),
        ("0.0.0.0", (), False, "100.64.3.2", True),
        ("0.0.0.0", (), False, "127.0.0.1", True),
        ("0.0.0.0", (), False, "::ffff:10.0.0.1", True),
        ("0.0.0.0", (), False, "fe80::1%eth0", True),
        ("0.0.0.0", ("k",), False, "8.8.8.8", True),
        ("0.0.0.0", (), True, "8.8.8.8", True),
        ("", (), False, "8.8.8.8", False),
        ("192.168.1.2", (), False, "8.8.8.8", False),
        ("127.0.0.1", (), False, "8.8.8.8", True),
        ("localhost", (), False, "8.8.8.8", True),
        ("::1", (), False, "8.8.8.8", True),
    ],
)
def test_who_is_let_in_without_a_key(
    host: str, keys: tuple[str, ...], is_open: bool, client: str, served: bool
) -> None:
    door = Door(Settings(host=Address(host=host), api_keys=keys, open=is_open))
    assert door.admits(client) is served


@pytest.mark.parametrize("path", ["/", "/api/tags", "/v1/models", "/v1/messages", "/ui", "/metrics"])
async def test_a_stranger_reads_how_to_make_a_key(tmp_path: Path, path: str) -> None:
    async with running_server(tmp_path, host=Address(host="0.0.0.0", port=0)) as server:
        headers = {"X-Forwarded-For": "8.8.8.8"}  # what a proxy on this machine says of its client
        status, answer = await server.call("GET", path, headers=headers)
        assert status == 403
        assert "CORRAL_API_KEYS" in str(answer)
        assert (await server.call("GET", "/api/version"))[0] == 200
