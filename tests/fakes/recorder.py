"""A proxy between a client and a server: passes everything on as it comes, and keeps what went to and fro."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_LOOK_S = 0.1
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host", "accept-encoding"}


@dataclass
class Exchange:
    """One request and its answer; `reply` grows while it is passed on, and is whole when `ended`.

    offer: the protocol that the client offered to change to.
    """

    path: str
    body: dict[str, Any]
    offer: str = ""
    status: int = 0
    reply: bytes = b""
    ended: bool = False
    left: bool = False  # by either side

    @property
    def is_stream(self) -> bool:
        """Whether the client asked for one and got one."""
        return bool(self.body.get("stream", self.path.startswith("/api/"))) and self.reply.count(b"\n") > 1

    def objects(self) -> Iterator[dict[str, Any]]:
        """The JSON objects of the answer, of whatever kind of stream."""
        for line in self.reply.decode(errors="replace").splitlines():
            text = line.removeprefix("data: ")
            if text.startswith("{"):
                with contextlib.suppress(ValueError):
                    yield json.loads(text)

    @property
    def tokens(self) -> tuple[int, int]:
        """(of the prompt, of these from the cache) as the answer tells; the last word counts."""
        prompt = cached = 0
        for item in self.objects():
            usage = item.get("usage") or (item.get("response") or item.get("message") or {}).get("usage") or {}
            details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details") or {}
            read = usage.get("input_tokens", usage.get("prompt_tokens", item.get("prompt_eval_count", 0))) or 0
            beside = usage.get("cache_read_input_tokens", 0)
            if read or beside:
                prompt = read + beside
                cached = beside or details.get("cached_tokens") or item.get("prompt_eval_cached_count", 0)
        return prompt, cached


class Recorder:
    """The proxy's address and what it saw, in order."""

    def __init__(self, target: str) -> None:
        self.exchanges: list[Exchange] = []
        self._target = urlsplit(target)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                recorder.pass_on(self)

            do_POST = do_HEAD = do_GET  # noqa: N815  the library's names

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        return Handler

    def pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        """One exchange, to its end or until either side leaves."""
        data = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with contextlib.suppress(ValueError):
            decoded = json.loads(data) if data else {}
        offer = handler.headers.get("Upgrade", "")
        exchange = Exchange(handler.path, decoded if data and isinstance(decoded, dict) else {}, offer)
        self.exchanges.append(exchange)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in _HOP_BY_HOP}
        if offer:
            headers["Connection"] = handler.headers.get("Connection", "")
        connection = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=300)
        threading.Thread(target=_leave_with, args=(handler.connection, connection, exchange), daemon=True).start()
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(handler.command, handler.path, data, headers)
            answer = connection.getresponse()
            exchange.status = answer.status
            handler.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    handler.send_header(name, value)
            handler.send_header("Connection", "close")
            handler.end_headers()
            while piece := answer.read1(65536):
                exchange.reply += piece
                handler.wfile.write(piece)
                handler.wfile.flush()
            exchange.ended = True
        exchange.left = True
        connection.close()
        handler.close_connection = True


def _leave_with(client: socket.socket, onward: http.client.HTTPConnection, exchange: Exchange) -> None:
    """A client that has left while nothing came for it is gone for the server, too."""
    while not exchange.left:
        with contextlib.suppress(OSError, ValueError):
            ready, _, _ = select.select([client], [], [], _LOOK_S)
            if ready and not client.recv(1, socket.MSG_PEEK):
                if onward.sock is not None:
                    onward.sock.shutdown(socket.SHUT_RDWR)
                return
            if ready:
                time.sleep(_LOOK_S)  # it has more to say


@contextlib.contextmanager
def recording(target: str) -> Iterator[Recorder]:
    """A recorder before a server, gone when the block ends."""
    recorder = Recorder(target)
    thread = threading.Thread(target=recorder._server.serve_forever, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        recorder._server.shutdown()
        recorder._server.server_close()
        thread.join()
