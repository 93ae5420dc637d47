"""Answers that take time: NDJSON, SSE and collected replies, with the client watched while they are made.

First chunk first: the status is sent when the first event is there, so an error before it keeps its own status; a
later one becomes a last line. A client that leaves before that gets the same answer that a cancelled request gets, for
whoever logs or counts statuses on the way. Three tasks serve a stream:

    pump      events -> encode -> socket, or outbox; owns the iterator and closes it
    deliver   outbox -> send: the first piece, the last, and what has piled up while the client was slow, joined
    watch     receive -> on disconnect, cancels the pump

While the client keeps up, the pump writes each piece itself: another task for it would cost a turn of the loop a token.
The outbox is why a slow reader stops nobody: the engine is read at its own pace into at most OUTBOX_BYTES, and the
lease goes back when the generation ends, not when the client has read it. Called by all API layers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeVar, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corral.errors import RequestCanceled
from corral.server.errors import error_line, error_reply
from corral.server.listen import PIECES, Pieces

log = logging.getLogger(__name__)

E = TypeVar("E")
T = TypeVar("T")

OUTBOX_BYTES = 16 * 2**20  # far more than one generation's text; beyond it the pump waits for the reader
NDJSON = "application/x-ndjson"
SSE = "text/event-stream; charset=utf-8"


class Outbox:
    """Encoded pieces between the pump and the client: bounded by bytes, emptied all at once.

    is_passed: nothing waits here, and all that did has been sent.
    """

    def __init__(self, limit_bytes: int = OUTBOX_BYTES) -> None:
        self._limit = limit_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: BaseException | None = None
        self._closed = False
        self._has_given = False
        self.is_passed = False
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, piece: bytes) -> None:
        """Add a piece; waits while the bound is exceeded."""
        self.is_passed = False
        self._pieces.append(piece)
        self._size += len(piece)
        self._filled.set()
        if self._size > self._limit:
            self._emptied.clear()
            await self._emptied.wait()

    def close(self, error: BaseException | None = None) -> None:
        """No more pieces; `error` is what ended them early."""
        self.is_passed = False
        self._closed, self._error = True, error
        self._filled.set()

    async def take(self) -> tuple[bytes, BaseException | None, bool]:
        """(all pieces joined, the error that ended them, whether more may come); waits for something to tell.

        To ask for more says that what was taken before is sent.
        """
        self.is_passed = self._has_given and not self._pieces and not self._closed
        await self._filled.wait()
        self._filled.clear()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._has_given = True
        self._emptied.set()
        return data, self._error, not self._closed


class EventStream(Response, Generic[E]):
    """A streamed answer. `encode`: an event's bytes, b"" for none; `fail`: the last bytes after a late error.

    `refuse`: the whole answer when the error comes before the first event.
    """

    def __init__(
        self,
        events: AsyncIterator[E],
        encode: Callable[[E], bytes],
        *,
        media_type: str = NDJSON,
        fail: Callable[[BaseException], bytes] = lambda error: error_line(error) + b"\n",
        refuse: Callable[[BaseException], Response] = error_reply,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.body = b""
        self.init_headers(headers)
        del self.headers["content-length"]
        self._events, self._encode, self._fail, self._refuse = events, encode, fail, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream; returns when it is sent, or when the client has left and the work has ended."""
        outbox = Outbox()
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump(outbox, scope.get(PIECES)))
            watch = group.create_task(_watch(scope, receive, pump, outbox))
            try:
                await self._deliver(outbox, scope, receive, send)
            finally:
                pump.cancel()
                watch.cancel()

    async def _pump(self, outbox: Outbox, pieces: Pieces | None) -> None:
        try:
            async with aclosing(cast("Any", self._events)) as events:
                async for event in events:
                    piece = self._encode(event)
                    if piece and not (pieces is not None and outbox.is_passed and pieces.write(piece)):
                        await outbox.put(piece)
        except Exception as error:  # noqa: BLE001  the edge of the request: every error becomes its answer
            outbox.close(error)
        finally:
            outbox.close(outbox._error)

    async def _deliver(self, outbox: Outbox, scope: Scope, receive: Receive, send: Send) -> None:
        data, error, more = await outbox.take()
        if error is not None and not data:
            await self._refuse(error)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while True:
            if error is not None:
                data += self._fail(error)
            await send({"type": "http.response.body", "body": data, "more_body": more})
            if not more:
                return
            data, error, more = await outbox.take()


class Reply(Response):
    """One answer that takes time to make: `make` runs while the client is watched, and is cancelled if it leaves."""

    def __init__(
        self,
        make: Callable[[], Coroutine[Any, Any, Response]],
        refuse: Callable[[BaseException], Response] = error_reply,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._make, self._refuse = make, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make the answer and send it; an exception becomes `refuse`'s."""
        try:
            response = await while_connected(receive, self._make())
        except Exception as error:  # noqa: BLE001  the edge of the request: every error becomes its answer
            response = self._refuse(error)
        await (response or self._refuse(_client_left(scope)))(scope, receive, send)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None when the client left first, after `work` has been cancelled and has ended."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        for each in (task, watch):
            each.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(task, watch, return_exceptions=True)


async def collect(events: AsyncIterator[E], take: Callable[[E], None]) -> None:
    """Feed every event to `take`; closes the iterator whatever happens."""
    async with aclosing(cast("Any", events)) as stream:
        async for event in stream:
            take(event)


async def _watch(scope: Scope, receive: Receive, pump: asyncio.Task[None], outbox: Outbox) -> None:
    await _disconnected(receive)
    pump.cancel()
    outbox.close(_client_left(scope))


def _client_left(scope: Scope) -> RequestCanceled:
    log.debug("%s %s: the client left before its answer had ended", scope["method"], scope["path"])
    return RequestCanceled()


async def _disconnected(receive: Receive) -> None:
    """Return when the client has left. The body has been read, so the next message of consequence says that."""
    while (await receive())["type"] != "http.disconnect":
        pass
