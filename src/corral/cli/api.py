"""The CLI's way to the server: the official `ollama` client, with its answers left whole.

The client's typed answers drop fields that the commands show (`projector_info`, `messages`, `warnings`), so the calls
here go through the client's own HTTP session and keep plain dicts. All errors become CommandErrors with the texts of
Ollama's CLI: calls that stream show the status line, the others the server's text alone.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx
import ollama

from corral.config import Address, Settings
from corral.errors import CorralError

_NOTHING_USABLE = "something went wrong, please see the corral server logs for details"
_NOT_RUNNING = "could not connect to corral server, run 'corral serve' to start it"


class ServerNotRunning(CorralError):
    """Nobody listens at the server's address."""

    def __init__(self) -> None:
        super().__init__(_NOT_RUNNING)


class ServerUnreachable(CorralError):
    """The network failed in another way; the text is the network's own."""


class ServerError(CorralError):
    """The server's error. `text` is its own words; status 0 when the error came inside a stream."""

    def __init__(self, text: str, status: int = 0, *, reason: str = "") -> None:
        super().__init__(f"{status} {reason}: {text}" if reason else text)
        self.text = text
        self.status = status


class Api(ollama.Client):
    """One server. Raises ServerNotRunning, ServerUnreachable or ServerError from every call."""

    def __init__(self, settings: Settings) -> None:
        headers = {"Authorization": f"Bearer {settings.api_keys[0]}"} if settings.api_keys else None
        super().__init__(host=settings.host.url, headers=headers, trust_env=not is_loopback(settings.host))

    def heartbeat(self) -> None:
        """Return when the server answers."""
        self._call("HEAD", "/")

    def server_version(self, timeout_s: float | None = None) -> str:
        """What the server says its version is."""
        answer = self._call("GET", "/api/version", timeout_s=timeout_s)
        return str(answer.get("version", ""))

    def get(self, path: str) -> dict[str, Any]:
        """The object at a path."""
        return self._call("GET", path)

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
        headers = {"Accept": "application/x-ndjson"}
        try:
            with self._client.stream("POST", path, json={**body, "stream": True}, headers=headers) as response:
                if response.status_code >= 400:
                    response.read()
                    raise _refusal(response, with_status=True)
                for line in response.iter_lines():
                    if line.strip():
                        yield _event(line)
        except httpx.TransportError as error:
            raise _unreachable(error) from None

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
        headers = {"Content-Type": "application/octet-stream"}
        try:
            response = self._client.post(f"/api/blobs/{digest}", content=chunks, headers=headers)
        except httpx.TransportError as error:
            raise _unreachable(error) from None
        if response.status_code >= 400:
            raise _refusal(response, with_status=False)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=body, timeout=timeout_s)
        except httpx.TransportError as error:
            raise _unreachable(error) from None
        if response.status_code >= 400:
            raise _refusal(response, with_status=False)
        try:
            answer = response.json() if response.content else {}
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}


def is_loopback(address: Address) -> bool:
    """Whether the address is this machine's own; such a server is never reached through a proxy."""
    host = httpx.URL(address.url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        raise ServerError(line) from None
    if not isinstance(event, dict):
        raise ServerError(line)
    if event.get("error"):
        raise ServerError(str(event["error"]))
    return event


def _refusal(response: httpx.Response, *, with_status: bool) -> ServerError:
    text = response.text
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        text = str(body.get("error") or "")
    return ServerError(
        text.strip() or _NOTHING_USABLE, response.status_code, reason=response.reason_phrase if with_status else ""
    )


def _unreachable(error: httpx.TransportError) -> CorralError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return ServerNotRunning()
        cause = cause.__cause__ or cause.__context__
    return ServerUnreachable(str(error) or type(error).__name__)
