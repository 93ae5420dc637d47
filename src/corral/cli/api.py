"""The CLI's way to the server, on the standard library's HTTP client, so that a command starts fast.

Answers stay plain dicts with every field the server sent. All errors become CorralErrors with the texts of Ollama's
CLI: calls that stream show the status line, the others the server's text alone. See docs/adr/0010.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import platform
import secrets
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import corral
from corral.address import Address
from corral.config import Settings
from corral.errors import CorralError

_NOTHING_USABLE = "something went wrong, please see the corral server logs for details"
_NOT_RUNNING = "could not connect to corral server, run 'corral serve' to start it"
_MAX_LINE_BYTES = 8 * 2**20  # of a stream, as in Ollama's client
_USER_AGENT = f"corral/{corral.__version__} ({platform.machine()} {platform.system().lower()})"


class ServerNotRunning(CorralError):
    """Nobody listens at the server's address."""

    def __init__(self) -> None:
        super().__init__(_NOT_RUNNING)


class ServerUnreachable(CorralError):
    """The network failed in another way; the text is the network's own."""


class ServerLost(ServerUnreachable):
    """The server was there, and has gone in the midst of a call."""


class AnswerCutShort(ServerLost):
    """The answer's stream ended without its last object: the server died, or something between cut it."""

    def __init__(self) -> None:
        super().__init__("the answer was cut short: the server ended it without its end")


class ServerError(CorralError):
    """The server's error. `text` is its own words; status 0 when the error came inside a stream."""

    def __init__(self, text: str, status: int = 0, *, reason: str = "") -> None:
        super().__init__(f"{status} {reason}: {text}" if reason else text)
        self.text = text
        self.status = status


class Api:
    """One server; a connection a call, so calls may come from several threads.

    Every call raises ServerNotRunning, ServerUnreachable or ServerError.
    """

    def __init__(self, settings: Settings) -> None:
        self._address = settings.host
        self._headers = {"User-Agent": _USER_AGENT, "Accept": "application/json"}
        if settings.api_keys:
            self._headers["Authorization"] = f"Bearer {settings.api_keys[0]}"

    def heartbeat(self) -> None:
        """Return when the server answers."""
        self._call("HEAD", "/")

    def server_version(self, timeout_s: float | None = None) -> str:
        """What the server says its version is."""
        return str(self._call("GET", "/api/version", timeout_s=timeout_s).get("version", ""))

    def get(self, path: str, timeout_s: float | None = None) -> dict[str, Any]:
        """The object at a path."""
        return self._call("GET", path, timeout_s=timeout_s)

    def text(self, path: str, timeout_s: float | None = None) -> str:
        """What is at a path, where that is no JSON."""
        with self._exchange("GET", path, None, {}, timeout_s) as response:
            if response.status >= 300:
                raise _refusal(response, with_status=False)
            return response.read().decode("utf-8", errors="replace")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One call, one answer."""
        return self._call("POST", path, body)

    def remove(self, path: str, body: Mapping[str, Any]) -> None:
        """DELETE with a body."""
        self._call("DELETE", path, body)

    def show_model(self, name: str, *, verbose: bool = False, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A model's description, whole."""
        return self.post("/api/show", {"model": name, "name": name, "verbose": verbose, **(extra or {})})

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The objects of a streamed answer; closing the iterator closes the connection, which cancels the work."""
        headers = {"Accept": "application/x-ndjson", "Content-Type": "application/json"}
        with self._exchange("POST", path, json.dumps({**body, "stream": True}).encode(), headers) as response:
            if response.status >= 300:
                raise _refusal(response, with_status=True)
            while line := response.readline(_MAX_LINE_BYTES):
                if line.strip():
                    yield _event(line)

    def has_blob(self, digest: str) -> bool:
        """Whether the server already has these bytes."""
        try:
            self._call("HEAD", f"/api/blobs/{digest}")
        except ServerError as error:
            if error.status == 404:
                return False
            raise
        return True

    def upload_blob(self, digest: str, chunks: Iterable[bytes]) -> None:
        """Send a blob's bytes."""
        headers = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
        with self._exchange("POST", f"/api/blobs/{digest}", chunks, headers) as response:
            if response.status >= 300:
                raise _refusal(response, with_status=False)
            response.read()

    def upload_file(self, path: str, name: str, chunks: Iterable[bytes], fields: Mapping[str, str]) -> dict[str, Any]:
        """Send a form with one file, whose size need not be known."""
        boundary = secrets.token_hex(16)
        plain = "".join(c if c.isprintable() and c not in '"\\' else "_" for c in name)

        def form() -> Iterator[bytes]:
            for key, value in fields.items():
                yield f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{plain}"\r\n\r\n'
            yield head.encode("utf-8", "replace")
            yield from chunks
            yield f"\r\n--{boundary}--\r\n".encode()

        kind = f"multipart/form-data; boundary={boundary}"
        headers = {"Content-Type": kind, "Transfer-Encoding": "chunked"}
        with self._exchange("POST", path, form(), headers) as response:
            if response.status >= 300:
                raise _refusal(response, with_status=False)
            answer: dict[str, Any] = json.loads(response.read())
            return answer

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a file at a path."""
        with self._exchange("GET", path, None, {}) as response:
            if response.status >= 300:
                raise _refusal(response, with_status=False)
            received = 0
            while line := response.readline():
                received += len(line)
                yield line
            expected = response.getheader("Content-Length")
            if expected is not None and int(expected) != received:
                raise AnswerCutShort

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> dict[str, Any]:
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if payload else {}
        with self._exchange(method, path, payload, headers, timeout_s) as response:
            if response.status >= 300:
                raise _refusal(response, with_status=False)
            data = response.read()
        try:
            answer = json.loads(data) if data else {}
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
        timeout_s: float | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """One request and its answer; network errors inside the block become ours."""
        connection, target = _connect(self._address, timeout_s)
        try:
            chunked = "Transfer-Encoding" in headers
            connection.request(method, target + path, body, {**self._headers, **headers}, encode_chunked=chunked)
            yield connection.getresponse()
        except ConnectionRefusedError:
            raise ServerNotRunning from None
        except http.client.IncompleteRead:
            raise ServerLost("unexpected EOF") from None
        except (ConnectionResetError, BrokenPipeError) as error:
            raise ServerLost(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachable(str(error) or type(error).__name__) from None
        finally:
            connection.close()


def _connect(address: Address, timeout_s: float | None) -> tuple[http.client.HTTPConnection, str]:
    """A connection, through the proxy the environment names unless the server is local; and what precedes each path."""
    url = urlsplit(address.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    host, port = url.hostname or "", url.port
    proxy = "" if is_loopback(address) or urllib.request.proxy_bypass(host) else _proxy(url.scheme)
    if not proxy:
        return kind(host, port, timeout=timeout_s), url.path
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = kind(via.hostname or "", via.port, timeout=timeout_s)
    if url.scheme == "https":
        connection.set_tunnel(host, port)
        return connection, url.path
    return connection, address.url


def _proxy(scheme: str) -> str:
    return urllib.request.getproxies().get(scheme, "")


def is_loopback(address: Address) -> bool:
    """Whether the address is this machine's own; such a server is never reached through a proxy."""
    host = urlsplit(address.url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _event(line: bytes) -> dict[str, Any]:
    text = line.decode(errors="replace").strip()
    try:
        event = json.loads(text)
    except ValueError:
        raise ServerError(text) from None
    if not isinstance(event, dict):
        raise ServerError(text)
    if event.get("error"):
        raise ServerError(str(event["error"]))
    return event


def _refusal(response: http.client.HTTPResponse, *, with_status: bool) -> ServerError:
    text = response.read().decode(errors="replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict):
        error = body.get("error") or ""
        text = str(error.get("message") if isinstance(error, dict) else error)
    return ServerError(text.strip() or _NOTHING_USABLE, response.status, reason=response.reason if with_status else "")
