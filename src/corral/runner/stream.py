"""`EngineStream`: a call whose answer comes piece by piece, straight on the socket. Made by endpoint.py for client.py.

All other calls are aiohttp's. Here a token of an answer passes through, and what a general client does for each piece
(flow control, timers, an iterator of its own) costs more than reading it (docs/adr/0036).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import httptools

from corral.errors import RunnerMisbehaved
from corral.runner.gathering import Gathering, Rounds

_MAX_HEAD_BYTES = 8 * 1024  # an engine sends some hundred
_MAX_WAITING_BYTES = 256 * 1024  # beyond that the engine waits until what has come is taken


class EngineStream(asyncio.Protocol):
    """The answer to a POST. Raises ConnectionError when it ends in its midst, RunnerMisbehaved when it is no HTTP."""

    def __init__(self) -> None:
        self.status = 0
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._head_bytes = 0
        self._unfinished_bytes = 0
        self._is_paused = False
        self._is_interim = False
        self._has_ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._gathering: Gathering | None = None

    def send(self, path: str, data: bytes, headers: Mapping[str, str]) -> None:
        """Send the request, its body in JSON."""
        assert self._transport is not None
        fields = {"Host": "runner", "Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._transport.write(f"POST {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        self._transport.write(data)

    async def head(self) -> int:
        """The status, once it is there."""
        while not self.status or self._error is not None:
            await self._moved()
        return self.status

    async def read(self) -> bytes:
        """What of the body has come since the last call; waits for some. b"" = that was all."""
        while not self._pieces:
            if self._has_ended:
                return b""
            await self._moved()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiting_bytes = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def gather(self, rounds: Rounds, every_s: float) -> None:
        """From now on pieces that come fast may wait for each other, looked at every so many seconds (gathering.py)."""
        if self._gathering is None and self._transport is not None and not self._has_ended:
            self._gathering = Gathering(self._transport, self._take, rounds, every_s)

    def close(self) -> None:
        """Close the connection at once, which is how the engine learns that nobody wants its answer."""
        if self._gathering is not None:
            self._gathering.close()
        if self._transport is not None:
            self._transport.abort()

    async def _moved(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self.close()
        self._wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The engine has been reached."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no child of it

    def data_received(self, data: bytes) -> None:
        """Bytes from the engine."""
        if self._take(data) and self._gathering is not None:
            self._gathering.came()

    def _take(self, data: bytes) -> bool:
        """Parse bytes; False when no more may come at once."""
        if self._has_ended or self._error is not None:
            return False
        if not self.status:
            self._unfinished_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(RunnerMisbehaved(f"no HTTP: {error}"[:200]))
            return False
        if self._head_bytes > _MAX_HEAD_BYTES or (not self.status and self._unfinished_bytes > _MAX_HEAD_BYTES):
            self._fail(RunnerMisbehaved("a head without end"))
            return False
        if self._pieces or self._has_ended:
            self._wake()
        return not self._is_paused and not self._has_ended

    def connection_lost(self, exc: Exception | None) -> None:
        """The engine is gone, or we have left."""
        if self._gathering is not None:
            self._gathering.close()
        if not self._has_ended:
            self._error = self._error or ConnectionResetError("the connection to the engine was lost")
        self._wake()

    def on_status(self, reason: bytes) -> None:
        """The words behind the status."""
        self._head_bytes += len(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header line; behind a body of chunks there may be some too."""
        self._head_bytes += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        """The head is there; that of an interim answer (1xx) says nothing yet."""
        status = self._parser.get_status_code()
        self._is_interim = 100 <= status < 200
        if not self._is_interim:
            self.status = status
            self._wake()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(body)
        self._waiting_bytes += len(body)
        if self._waiting_bytes > _MAX_WAITING_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is there whole, or an interim one was."""
        if self._is_interim:
            self._head_bytes = self._unfinished_bytes = 0
        else:
            self._has_ended = True
