"""A server with Ollama's API for the CLI's tests: answers from a table, on a real loopback socket; records requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What a route answers: an object, or the objects of a stream; `text` is a body that is no JSON."""

    body: Any = None
    status: int = 200
    stream: Iterable[Mapping[str, Any]] | None = None
    text: str | None = None


Route = Reply | Callable[[Any], Reply]


@dataclass
class FakeApi:
    """`routes` maps `METHOD /path` to a reply, or to a function of the decoded request body."""

    routes: dict[str, Route] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)  # a client left in the middle of a stream
    port: int = 0

    @property
    def environ(self) -> dict[str, str]:
        """Settings that lead a client here."""
        return {"CORRAL_HOST": f"127.0.0.1:{self.port}"}

    def bodies(self, route: str) -> list[Any]:
        """The request bodies that a route got."""
        return [body for asked, body in self.requests if asked == route]

    def reply(self, route: str, body: Any) -> Reply:
        """The scripted answer; an unknown route is a 404 without JSON."""
        self.requests.append((route, body))
        answer = self.routes.get(route, Reply(status=404, text="404 page not found"))
        return answer(body) if callable(answer) else answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)


@contextmanager
def serving(api: FakeApi) -> Iterator[FakeApi]:
    """Serve until the block ends."""
    server = _Server(api)
    api.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Stay quiet."""

    def do_HEAD(self) -> None:
        """All methods alike; a HEAD answer has no body."""
        api, body = self.server.api, self._body()
        reply = Reply(text="Ollama is running") if self.path == "/" else api.reply(f"{self.command} {self.path}", body)
        self.send_response(reply.status)
        if reply.stream is not None:
            self.end_headers()
            self._send_stream(reply.stream)
            return
        text = reply.text if reply.text is not None else "" if reply.body is None else json.dumps(reply.body)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    do_GET = do_POST = do_DELETE = do_HEAD  # noqa: N815

    def _send_stream(self, events: Iterable[Mapping[str, Any]]) -> None:
        try:
            for event in events:
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()
        except OSError:
            self.server.api.gone.set()

    def _body(self) -> Any:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Type") == "application/octet-stream":
            return data
        return json.loads(data) if data else None
