"""Large request bodies: together they take no more memory than there is room for; small ones never wait for them."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope
from tests.fakes.server import RunningServer
from tests.security.test_a_whole_server import MOST_MIB, WIDE, peak_mib, send, whole_server

from corral.errors import BodiesFull, InvalidRequest
from corral.jsonbudget import MAX_WIDE_BYTES, wide_bytes
from corral.server.bodyroom import LARGE_BYTES, ROOM_BYTES, BodyRoom

FEW = {"options": {"num_predict": 1}, "max_tokens": 1, "stream": False}
TOLD = [{"role": "user", "content": WIDE}]
GIANTS: list[tuple[str, dict[str, Any]]] = [
    ("/api/generate", {"model": "jinja", "prompt": WIDE}),
    ("/api/chat", {"model": "go", "messages": TOLD}),
    ("/v1/chat/completions", {"model": "jinja", "messages": TOLD}),
    ("/v1/messages", {"model": "go", "messages": TOLD}),
    ("/v1/responses", {"model": "jinja", "input": WIDE}),
    ("/v1/completions", {"model": "go", "prompt": WIDE}),
    ("/api/embed", {"model": "go", "input": WIDE}),
]


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_giants_that_come_together_are_served_one_after_the_other(tmp_path: Path) -> None:
    with whole_server(tmp_path) as server, ThreadPoolExecutor(len(GIANTS)) as pool:
        list(pool.map(lambda giant: send(server, giant[0], {**FEW, **giant[1]}), GIANTS))
        assert peak_mib(server) < MOST_MIB
        assert server.post("/api/generate", {"model": "go", "prompt": "x", **FEW})["done"]


async def test_a_small_request_does_not_wait_and_a_large_one_has_its_turn(server: RunningServer) -> None:
    server.add("go")
    room: BodyRoom = server.app.state.bodies
    holder = room.enter({})
    await holder.settle(b" " * (ROOM_BYTES // 2))
    large = io.BytesIO(b'{"model":"go","x":"' + b"a" * LARGE_BYTES + b'"}')
    waiting = asyncio.create_task(server.call("POST", "/api/show", data=large))
    assert (await server.post("/api/show", {"model": "go"}))[0] == 200
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    assert not done
    await room.leave(holder)
    assert (await waiting)[0] == 200


async def test_whoever_leaves_the_line_takes_nothing() -> None:
    room = BodyRoom(0)
    first, second, third = (room.enter({}) for _ in range(3))
    await first.settle(b" " * ROOM_BYTES)
    waiting = [asyncio.create_task(share.settle(b" " * ROOM_BYTES)) for share in (second, third)]
    await asyncio.sleep(0.2)
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    assert not waiting[1].done()
    await room.leave(first)
    await asyncio.wait_for(waiting[1], 10)
    await room.leave(second)  # which had nothing
    await room.leave(third)
    await asyncio.wait_for(room.enter({}).settle(b" " * ROOM_BYTES), 10)


async def test_bodies_on_their_way_have_a_bound_together(server: RunningServer) -> None:
    room: BodyRoom = server.app.state.bodies
    scope: Scope = {}
    other = room.enter(scope)
    other.grow(server.deps.settings.max_body_bytes - LARGE_BYTES)
    body = b'{"model":"go","x":"' + b"a" * LARGE_BYTES + b'"}'
    async with server.http.post(server.url + "/api/show", data=io.BytesIO(body)) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    with pytest.raises(BodiesFull):
        room.enter({}).grow(2 * LARGE_BYTES)
    await room.leave(other)
    server.add("go")
    assert (await server.call("POST", "/api/show", data=io.BytesIO(body)))[0] == 200


async def test_a_large_body_that_stops_coming_gives_its_room_back(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.server.body._STALL_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: {8 * LARGE_BYTES}\r\n\r\n"
    writer.write(head.encode() + b" " * (2 * LARGE_BYTES))
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
    assert b" 408 " in answer
    writer.close()


@pytest.mark.parametrize("character", ["\U0001f600".encode(), b"\\ud83d\\ude00"])
async def test_texts_that_take_more_than_any_window_holds_are_refused(server: RunningServer, character: bytes) -> None:
    """128 MiB of memory, for a body of 33 MB."""
    text = b'{"model":"go","prompt":"' + character + b"a" * (MAX_WIDE_BYTES // 4) + b'"}'
    assert wide_bytes(b'["' + character + b"a" * 2**20 + b'","' + b"b" * 2**20 + b'"]') // 2**20 == 4
    assert wide_bytes('["é'.encode() + b"a" * 2**20 + b'"]') == 0
    assert wide_bytes(b'["\xe4\xb8\xad' + b"a" * 2**20 + b'"]') // 2**20 == 2
    with pytest.raises(InvalidRequest, match="bytes of memory"):
        wide_bytes(text)
    status, reply = await server.call("POST", "/api/generate", data=io.BytesIO(text))
    assert (status, "bytes of memory" in reply["error"]) == (400, True)
