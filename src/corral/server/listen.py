"""The listening socket, and uvicorn's HTTP protocol with a bound on request heads. Called by serve.py."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from corral.config import Address

MAX_HEAD_BYTES = 64 * 1024  # request line and headers together
_TOO_LARGE = b"request header fields too large"


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
    """uvicorn without its signal handling: serve.py says when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose request heads are bounded: 431 and the connection closes, before anything is done for it."""

    _head_bytes = 0
    _head_open = False
    _refused = False

    def on_message_begin(self) -> None:
        """A new head starts."""
        self._head_bytes, self._head_open, self._refused = 0, True, False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header line."""
        self._head_bytes += len(name) + len(value) + 4
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: refuse it or serve it."""
        self._head_open = False
        self._refused = self._head_bytes > MAX_HEAD_BYTES
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there whole."""
        if not self._refused:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client; an unfinished head that is too large already is refused as well."""
        if self._refused:
            return
        super().data_received(data)
        if self._head_open:
            self._received += len(data)
        else:
            self._received = 0
        if self._over_bound():
            self._refuse()

    _received = 0  # bytes since the last whole head

    def _over_bound(self) -> bool:
        """Whether the callbacks of the last bytes refused a whole head, or an open one has become too large."""
        return self._refused or self._received > MAX_HEAD_BYTES

    def _refuse(self) -> None:
        self._refused = True
        if self.transport.is_closing():
            return
        head = [
            STATUS_LINE[431],
            b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n",
            b"content-length: " + str(len(_TOO_LARGE)).encode() + b"\r\n\r\n",
            _TOO_LARGE,
        ]
        self.transport.write(b"".join(head))
        self.transport.close()
