"""The listening socket, and uvicorn's HTTP protocol as RFC 9112 has it. Called by serve.py.

| a request                      | gets                                                                     |
|--------------------------------|--------------------------------------------------------------------------|
| with a head over 64 KiB        | 431, the connection closes                                               |
| without one Host exactly       | 400 (HTTP/1.0 may leave it out)                                          |
| of HTTP/1.0                    | an answer without chunks, which ends with the connection                 |
| that offers another protocol   | an answer in HTTP/1.1, as if nothing were offered (upgrades.py)          |

An answer that is there before the request's body (413, 507, 431) must reach a client that is still sending: closing
the socket under it would answer its bytes with a reset, which throws the answer away unread. So such a connection is
closed in two steps: our side at once, the rest when the client has seen that, or after LINGER_S (`_Lingering`).
Source of the idea: RFC 9112 section 9.6.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import httptools
import uvicorn
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from corral.address import Address
from corral.server.upgrades import UpgradelessParser

MAX_HEAD_BYTES = 64 * 1024  # request line and headers together
LINGER_S = 30.0
PIECES = "corral.pieces"  # scope entry: Pieces
_TOO_LARGE = (431, b"request header fields too large")
_NO_HOST = (400, b"400 Bad Request: missing required Host header")  # Go's words
_TWO_HOSTS = (400, b"400 Bad Request: too many Host headers")


def bind(address: Address) -> socket.socket:
    """A bound socket; raises OSError (EADDRINUSE when somebody listens there). Host "" or "::" is all interfaces."""
    host = address.host or "::"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family is socket.AF_INET6 and not socket.has_dualstack_ipv6():
        host, family = "0.0.0.0", socket.AF_INET  # noqa: S104  no host means all interfaces
    if not _is_numeric(host):
        family, _, _, _, resolved = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)[0]
        host = str(resolved[0])
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind((host, address.port))
        listener.listen(1024)
        listener.setblocking(False)
        listener.set_inheritable(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_numeric(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handling and its ten looks a second: serve.py says when to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Serve what is under way, then end; the second time, end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Renew the Date header once a second, until stopped."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class _Lingering:
    """A transport whose close() lets the client finish sending, if `is_receiving` says that it is not done."""

    def __init__(self, transport: asyncio.Transport, is_receiving: Callable[[], bool]) -> None:
        self._transport = transport
        self._is_receiving = is_receiving
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, unless our side is closed already: the client left in mid-body, or got its answer before."""
        if not self.is_closing():
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether close() was called."""
        return self._timer is not None or self._transport.is_closing()

    def close(self) -> None:
        """Close; a second call does not wait for the client."""
        if self.is_closing() or not self._is_receiving() or not self._transport.can_write_eof():
            self.close_now()
            return
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)
        self._transport.write_eof()
        if not self._transport.is_reading():
            self._transport.resume_reading()

    def close_now(self) -> None:
        """Close without waiting."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose request heads are checked before anything is done for them; see the table above."""

    _head_bytes = 0
    _head_open = False
    _body_open = False
    _refused: tuple[int, bytes] | None = None  # status and text
    _hosts = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        self.parser = cast("httptools.HttpRequestParser", UpgradelessParser(self))
        self._lingering = _Lingering(transport, lambda: self._head_open or self._body_open)
        super().connection_made(cast("asyncio.Transport", self._lingering))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        self._lingering.close_now()

    def shutdown(self) -> None:
        """The server stops: whoever has no answer to come is not waited for."""
        super().shutdown()
        if self.transport.is_closing():
            self._lingering.close_now()

    def on_message_begin(self) -> None:
        """A new head starts."""
        self._head_bytes, self._head_open, self._refused, self._hosts = 0, True, None, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header line."""
        self._head_bytes += len(name) + len(value) + 4
        self._hosts += name.lower() == b"host"
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: refuse it or serve it."""
        self._head_open = False
        self._body_open = True
        self._refused = self._reason_to_refuse()
        if not self._refused:
            super().on_headers_complete()

    def _reason_to_refuse(self) -> tuple[int, bytes] | None:
        if self._head_bytes > MAX_HEAD_BYTES:
            return _TOO_LARGE
        if self._hosts > 1:
            return _TWO_HOSTS
        return _NO_HOST if not self._hosts and self.parser.get_http_version() != "1.0" else None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.scope[PIECES] = Pieces(cycle)  # type: ignore[literal-required]
        is_old = cycle.scope["http_version"] == "1.0"
        super()._start_asgi_task(cycle, _without_chunks(cycle, app) if is_old else app)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there whole."""
        self._body_open = False
        if not self._refused:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client; an unfinished head that is too large already is refused as well."""
        if self._refused or self.transport.is_closing():
            return
        super().data_received(data)
        if self._head_open:
            self._received += len(data)
        else:
            self._received = 0
        if self._received > MAX_HEAD_BYTES:
            self._refused = _TOO_LARGE
        if self._refused:
            self._refuse(*self._refused)

    _received = 0  # bytes since the last whole head

    def _refuse(self, status: int, text: bytes) -> None:
        if self.transport.is_closing():
            return
        head = [
            STATUS_LINE[status],
            b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n",
            b"content-length: " + str(len(text)).encode() + b"\r\n\r\n",
            text,
        ]
        self.transport.write(b"".join(head))
        self.transport.close()


class Pieces:
    """The way of a body's pieces to the socket, past the layers around the app: they look at the head of an answer.

    Pieces that come in one step of a task are sent together.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._waiting: list[bytes] = []

    def write(self, piece: bytes) -> bool:
        """Send a piece of a body in chunks whose head has been sent; False when it must go the usual way.

        That is when the client is slow or gone. What is sent the usual way later cannot come first: it waits for a task
        to wake, behind the callback that sends these.
        """
        cycle = self._cycle
        if not cycle.chunked_encoding or cycle.response_complete or cycle.flow.write_paused or cycle.disconnected:
            return False
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def _send(self) -> None:
        self._cycle.transport.write(b"".join(self._waiting))
        self._waiting.clear()


def _without_chunks(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """The app for a client of HTTP/1.0, which knows no chunks: a body of unknown length ends with the connection."""

    async def plain(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_plain(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start":
                if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
                    cycle.chunked_encoding = False
            elif (
                message["type"] == "http.response.body"
                and cycle.chunked_encoding is False
                and not cycle.response_complete
            ):
                cycle.expected_content_length = max(cycle.expected_content_length, len(message.get("body", b"")))
            await send(message)

        await app(scope, receive, send_plain)

    return plain
