"""One TCP listener for everything that others want of a process of the cluster; a token says who wants what.

A connection begins with the head of an HTTP request, which is read within a bound of bytes and of time. Its bearer
token names a handler; without one that is known, the answer is 401 and nothing else is looked at. Who may connect at
all, the network decides: nothing here is encrypted (docs/cluster.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)
_MAX_HEAD_BYTES = 16 * 2**10
_HEAD_S = 10.0
_LINGER_S = 1.0
MAX_CONNECTIONS = 1024
_BUFFER_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request. raw: byte for byte, with the empty line at its end; headers have names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes


Handler = Callable[[Head, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Hands connections to handlers, and closes them when these return."""

    def __init__(self) -> None:
        self.host, self.port = "", 0
        self._handlers: dict[str, Handler] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str) -> None:
        """On a free port of this address, and of no other."""
        self._server = await asyncio.start_server(self._serve, host, 0, limit=_BUFFER_BYTES)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]

    def admit(self, handler: Handler) -> str:
        """A fresh token for what this handler gives."""
        token = secrets.token_urlsafe(32)
        self._handlers[token] = handler
        return token

    def forget(self, token: str) -> None:
        """The token opens nothing any more; connections that it has opened stay."""
        self._handlers.pop(token, None)

    async def close(self) -> None:
        """Listen no more, and cut all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            if len(self._serving) > MAX_CONNECTIONS:
                log.warning("more than %d connections: one is refused", MAX_CONNECTIONS)
                writer.write(refusal(503))
                return
            async with asyncio.timeout(_HEAD_S):
                head = await _read_head(reader)
            handler = None if head is None else self._handler(head)
            if head is None or handler is None:
                await _refuse(400 if head is None else 401, reader, writer)
                return
            await handler(head, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the other side is gone, or says nothing
        except asyncio.CancelledError:
            writer.transport.abort()  # close() asks for it; asyncio takes a cancelled handler for a failed one
        except Exception:
            log.exception("a connection failed")
        finally:
            self._serving.discard(task)
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()

    def _handler(self, head: Head) -> Handler | None:
        kind, _, shown = head.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not shown.isascii():
            return None
        found = None
        for token, handler in self._handlers.items():
            if hmac.compare_digest(token, shown):
                found = handler
        return found


async def _read_head(reader: asyncio.StreamReader) -> Head | None:
    """None for what is none."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None
    if len(raw) > _MAX_HEAD_BYTES:
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3:
        return None
    headers: dict[str, str] = {}
    for text in lines[:-2]:
        name, colon, value = text.partition(":")
        if not colon:
            return None
        headers[name.strip().lower()] = value.strip()
    return Head(words[0], words[1], headers, raw)


async def _refuse(status: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer so, and wait a moment for the other side to close.

    A connection that is closed under bytes that still come ends with a reset, which throws the answer away unread.
    """
    writer.write(refusal(status))
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(_BUFFER_BYTES):
                pass


def refusal(status: int) -> bytes:
    """An answer that says no more than its status."""
    return f"HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


async def read_line(reader: asyncio.StreamReader, limit_bytes: int) -> bytes:
    """One line; empty at the end, and for a longer one."""
    parts = bytearray()
    while len(parts) <= limit_bytes:
        try:
            return bytes(parts + await reader.readuntil(b"\n"))
        except asyncio.LimitOverrunError as error:
            parts += await reader.readexactly(error.consumed)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
    return b""
