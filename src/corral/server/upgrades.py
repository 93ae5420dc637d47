"""httptools' parser for a server that takes no upgrade: an offer is ignored and the request's body is read.

Java's HTTP client offers HTTP/2 with every request on plain http (`Connection: Upgrade, HTTP2-Settings`). llhttp stops
behind such a head, since another protocol could follow. A server may ignore the offer (RFC 9110 section 7.8), and the
client then goes on in HTTP/1.1: here the head is fed again without the offer, to a new parser. Used by listen.py.
"""

from __future__ import annotations

from typing import Any

import httptools

_OFFER = (b"upgrade", b"http2-settings", b"connection")


class UpgradelessParser:
    """What the protocol uses of `httptools.HttpRequestParser`; `protocol` gets the same callbacks."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._parser = self._new_parser()
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_offered = False

    def get_http_version(self) -> str:
        """As "1.1"."""
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        """As it was written."""
        return bytes(self._parser.get_method())

    def should_keep_alive(self) -> bool:
        """Whether the client wants to go on with this connection."""
        return bool(self._parser.should_keep_alive())

    def should_upgrade(self) -> bool:
        """Never: offers do not get as far as the protocol."""
        return False

    def feed_data(self, data: bytes) -> None:
        """Parse some more; raises httptools.HttpParserError, and HttpParserUpgrade for CONNECT only."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if not self._is_offered:
                raise
            head = self._head_without_offer()
            self._parser = self._new_parser()
            self.feed_data(head + data[offer.args[0] :])

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn, for pipelined requests
        return parser

    def _head_without_offer(self) -> bytes:
        lines = [self._parser.get_method() + b" " + self._url + b" HTTP/" + self._parser.get_http_version().encode()]
        lines += [name + b": " + value for name, value in self._headers if name.lower() not in _OFFER]
        tokens = [
            part.strip() for name, value in self._headers if name.lower() == _OFFER[2] for part in value.split(b",")
        ]
        kept = [token for token in tokens if token.lower() not in _OFFER]
        lines += [b"connection: " + b", ".join(kept)] if kept else []
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        """A new head starts."""
        self._url, self._headers, self._is_offered = b"", [], False
        self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url
        self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header line."""
        self._headers.append((name, value))
        self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there; one with an offer is not passed on, it comes again without."""
        self._is_offered = self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"
        if not self._is_offered:
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        """The request is there whole."""
        if not self._is_offered:
            self._protocol.on_message_complete()
