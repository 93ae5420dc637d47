"""Streams: the first event decides the status, a late error is a last line, a slow reader stops nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.responses import Response

from corral.core import Done, Event, Progress
from corral.errors import ModelNotFound
from corral.inference.progress import Emit, with_progress
from corral.server.listen import PIECES, Pieces
from corral.server.stream import EventStream, Outbox, Reply, while_connected

SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": []}


class Client:
    """Both ends of an ASGI call. `leave` is the disconnect; `reading` unset makes every send wait."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.leave = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()

    async def receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reading.wait()
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def encode(event: str) -> bytes:
    return f"{event}\n".encode()


async def served(events: AsyncIterator[str], client: Client) -> Client:
    await EventStream(events, encode)(SCOPE, client.receive, client.send)
    return client


async def test_events_become_lines_after_one_200() -> None:
    async def events() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    client = await served(events(), Client())
    assert client.sent[0]["status"] == 200
    assert (b"content-type", b"application/x-ndjson") in client.sent[0]["headers"]
    assert client.body == b"a\nb\n"
    assert client.sent[-1]["more_body"] is False


async def test_an_error_before_the_first_event_has_its_own_status() -> None:
    async def events() -> AsyncIterator[str]:
        raise ModelNotFound("x")
        yield ""

    client = await served(events(), Client())
    assert client.sent[0]["status"] == 404
    assert client.body == b'{"error":"model \'x\' not found"}'


async def test_an_error_later_is_the_last_line() -> None:
    async def events() -> AsyncIterator[str]:
        yield "a"
        raise ModelNotFound("x")

    client = await served(events(), Client())
    assert client.sent[0]["status"] == 200
    assert client.body == b'a\n{"error":"model \'x\' not found"}\n'


async def test_the_status_waits_for_the_first_event() -> None:
    first = asyncio.Event()

    async def events() -> AsyncIterator[str]:
        await first.wait()
        yield "a"

    client = Client()
    task = asyncio.create_task(served(events(), client))
    for _ in range(5):
        await asyncio.sleep(0)
    assert client.sent == []
    first.set()
    await task
    assert client.body == b"a\n"


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_before_the_first_event_is_a_499_to_whoever_still_listens(
    streamed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    async def loading() -> AsyncIterator[str]:
        started.set()
        await asyncio.Event().wait()
        yield ""

    async def make() -> Response:
        raise AssertionError([event async for event in loading()])

    client = Client()
    answer = EventStream(loading(), encode) if streamed else Reply(make)
    with caplog.at_level(logging.DEBUG, "corral.server.stream"):
        task = asyncio.create_task(answer(SCOPE, client.receive, client.send))
        await started.wait()
        client.leave.set()
        await task
    assert client.sent[0]["status"] == 499
    assert client.body == b'{"error":"request canceled"}'
    assert [record.message for record in caplog.records] == ["POST /: the client left before its answer had ended"]


@pytest.mark.parametrize("before_first", [True, False])
async def test_a_client_that_leaves_ends_the_work_before_the_call_returns(before_first: bool) -> None:
    ended, started = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncIterator[str]:
        try:
            if not before_first:
                yield "a"
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    client = Client()
    task = asyncio.create_task(served(events(), client))
    await started.wait()
    client.leave.set()
    await task
    assert ended.is_set()


async def test_the_work_ends_although_nobody_reads() -> None:
    ended = asyncio.Event()

    async def events() -> AsyncIterator[str]:
        for number in range(1000):
            yield str(number)
        ended.set()

    client = Client()
    client.reading.clear()
    task = asyncio.create_task(served(events(), client))
    await ended.wait()
    assert client.sent == []
    client.reading.set()
    await task
    assert client.body.count(b"\n") == 1000


async def test_a_full_outbox_makes_the_pump_wait() -> None:
    outbox = Outbox(limit_bytes=10)
    await outbox.put(b"x" * 10)
    late = asyncio.create_task(outbox.put(b"y"))
    await asyncio.sleep(0)
    assert not late.done()
    assert (await outbox.take())[0] == b"x" * 10 + b"y"
    await late


async def test_work_goes_on_to_its_result_while_the_client_stays() -> None:
    async def work() -> int:
        return 5

    assert await while_connected(Client().receive, work()) == 5


async def test_work_is_cancelled_when_the_client_leaves() -> None:
    client, cancelled = Client(), asyncio.Event()

    async def work() -> None:
        try:
            client.leave.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await while_connected(client.receive, work())
    assert cancelled.is_set()


async def test_progress_comes_while_the_run_waits() -> None:
    go_on = asyncio.Event()

    async def run(emit: Emit) -> AsyncIterator[Event]:
        emit(Progress("queued", 1))
        await go_on.wait()
        yield Done("stop")

    events = with_progress(run)
    assert await anext(events) == Progress("queued", 1)
    go_on.set()
    assert [event async for event in events] == [Done("stop")]


async def test_a_failing_run_raises_after_its_progress() -> None:
    async def run(emit: Emit) -> AsyncIterator[Event]:
        emit(Progress("loading"))
        raise ModelNotFound("x")
        yield

    events = with_progress(run)
    assert await anext(events) == Progress("loading")
    with pytest.raises(ModelNotFound):
        await anext(events)


async def test_closing_a_stream_with_progress_ends_the_run() -> None:
    ended = asyncio.Event()

    async def run(emit: Emit) -> AsyncIterator[Event]:
        try:
            emit(Progress("loading"))
            await asyncio.Event().wait()
            yield Done("stop")
        finally:
            ended.set()

    events: Any = with_progress(run)
    await anext(events)
    await events.aclose()
    assert ended.is_set()


class Socket:
    """The short way to the client, for a while; what it takes is told from what comes the usual way."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.took: list[bytes] = []
        self.is_free = True

    def write(self, piece: bytes) -> bool:
        if self.is_free:
            self.took.append(piece)
            self.client.sent.append({"type": "http.response.body", "body": piece})
        return self.is_free


async def test_pieces_take_the_short_way_and_stay_in_order() -> None:
    client = Client()
    socket = Socket(client)

    async def events() -> AsyncIterator[str]:
        for number in range(20):
            if number % 2 == 0:
                await asyncio.sleep(0)
            socket.is_free = not 5 <= number < 9
            yield str(number)

    await EventStream(events(), encode)(SCOPE | {PIECES: socket}, client.receive, client.send)
    assert client.body == b"".join(encode(str(number)) for number in range(20))
    assert encode("0") not in socket.took  # the head goes before it
    assert len(socket.took) >= 10


async def test_nothing_overtakes_a_piece_that_waits_for_the_client() -> None:
    client = Client()
    socket = Socket(client)

    async def events() -> AsyncIterator[str]:
        yield "first"
        client.reading.clear()
        await asyncio.sleep(0)
        yield "held up" if socket.took else "second"
        await asyncio.sleep(0.01)
        yield "third"
        client.reading.set()

    await EventStream(events(), encode)(SCOPE | {PIECES: socket}, client.receive, client.send)
    assert client.body == b"first\nsecond\nthird\n"


async def test_pieces_of_one_step_are_sent_together() -> None:
    sent: list[bytes] = []
    cycle = SimpleNamespace(
        chunked_encoding=True,
        response_complete=False,
        disconnected=False,
        flow=SimpleNamespace(write_paused=False),
        transport=SimpleNamespace(write=sent.append),
    )
    pieces = Pieces(cast("Any", cycle))
    assert pieces.write(b"one")
    assert pieces.write(b"three")
    await asyncio.sleep(0)
    assert pieces.write(b"four")
    await asyncio.sleep(0)
    cycle.flow.write_paused = True
    assert not pieces.write(b"five")
    await asyncio.sleep(0)
    assert sent == [b"3\r\none\r\n5\r\nthree\r\n", b"4\r\nfour\r\n"]
