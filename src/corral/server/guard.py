"""Who may talk to the server: address, Origin, Host, API key, in this order. Pure ASGI middleware around the whole app.

| check  | refuses                                                             | with                   |
|--------|---------------------------------------------------------------------|------------------------|
| door   | a client at a public address, where no keys are set (door.py)        | 403, in the API's form |
| Origin | a browser page from an origin that is not allowed (drive-by use)     | 403, empty body        |
| Host   | a name that does not mean this machine (DNS rebinding)               | 403, empty body        |
| key    | a request without one of the configured API keys, but for / and /ui  | 401, in the API's form |

Origin, Host and key also when bound to a public address. Source: ollama server/routes.go GenerateRoutes,
allowedHostsMiddleware, envconfig AllowedOrigins, gin-contrib/cors v1.7.2, 2026-08.
"""

from __future__ import annotations

import base64
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.api.native_replies import encode
from corral.config import Settings
from corral.errors import CorralError
from corral.server.door import CLOSED, Door
from corral.server.holders import Holders

HOLDER = "corral.holder"  # scope entry: the Holder of the key that the client showed
_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104  names a browser may use, nothing is bound to them
_APPS = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")
_SCHEMES = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)
_STAINLESS = [
    "Arch",
    "Async",
    "Custom-Poll-Interval",
    "Helper-Method",
    "Lang",
    "Os",
    "Package-Version",
    "Poll-Helper",
    "Retry-Count",
    "Runtime",
    "Runtime-Version",
    "Timeout",
]
_ALLOW_HEADERS = ",".join(
    ["Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With", "X-Api-Key", "Anthropic-Version"]
    + ["Anthropic-Beta", "Openai-Beta"]
    + [f"X-Stainless-{name}" for name in _STAINLESS]
)
_EXPOSE_HEADERS = "X-Corral-Warnings, X-Corral-Hint, Retry-After"
_ALLOW_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_PREFLIGHT_VARY = ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")
_PRIVATE = [ipaddress.ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]
_FORBIDDEN = Response(status_code=403)


class OriginError(CorralError):
    """An entry of CORRAL_ORIGINS that is no origin."""

    def __init__(self, entry: str) -> None:
        super().__init__(f"bad origin {entry!r}: origins must contain '*' or start with {', '.join(_SCHEMES)}")
        self.entry = entry


class Origins:
    """The allowed origins; one `*` per entry, matched as prefix and suffix. Raises OriginError."""

    def __init__(self, extra: Sequence[str]) -> None:
        for entry in extra:
            if "*" not in entry and not entry.startswith(_SCHEMES):
                raise OriginError(entry)
        self.any = "*" in extra
        local = [f"{scheme}://{host}{port}" for scheme in ("http", "https") for host in _LOCAL for port in ("", ":*")]
        entries = [entry.lower() for entry in (*extra, *local, *_APPS)]
        self._exact = {entry for entry in entries if "*" not in entry}
        self._patterns = [entry.split("*", 1) for entry in entries if "*" in entry]
        self.hosts = {_host_part(entry.split("://", 1)[1]) for entry in self._exact if "://" in entry}

    def allows(self, origin: str) -> bool:
        """Whether a page from this origin may use the API; browsers send origins in lower case."""
        return (
            self.any
            or origin in self._exact
            or any(
                len(origin) >= len(head) + len(tail) and origin.startswith(head) and origin.endswith(tail)
                for head, tail in self._patterns
            )
        )


class Guard:
    """The four checks, in order, in front of an ASGI app."""

    def __init__(self, app: ASGIApp, settings: Settings, holders: Holders) -> None:
        self._app = app
        self._origins = Origins(settings.origins)
        self._names = {"", "localhost", socket.gethostname().lower(), settings.host.host.lower()} | self._origins.hosts
        self._holders = holders
        self._door = Door(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, answer a preflight, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._door.admits(scope["client"][0] if scope.get("client") else None):
            await _refused(scope["path"], 403, CLOSED, "permission_error")(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = _foreign_origin(headers)
        if origin:
            if not self._origins.allows(origin):
                await _FORBIDDEN(scope, receive, send)
                return
            if scope["method"] == "OPTIONS":
                await self._preflight(origin, headers)(scope, receive, send)
                return
            send = self._with_origin(send, origin)
        refusal = self._refusal(scope, headers)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = _host_part(headers.get("host", "")).lower()
        if not self._is_own_address(host, scope):
            if not self._is_own_name(host):
                return _FORBIDDEN
            if scope["method"] == "OPTIONS":
                return Response(status_code=204)
        if self._holders and not _needs_no_key(scope["path"]):
            holder = self._holders.of(_shown_key(headers, scope["path"]))
            if holder is None:
                return _unauthorized(scope["path"])
            scope[HOLDER] = holder
        return None

    def _is_own_address(self, host: str, scope: Scope) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        server: Any = scope.get("server") or ("",)
        private = any(address in network for network in _PRIVATE)
        return address.is_loopback or private or address.is_unspecified or str(address) == server[0]

    def _is_own_name(self, host: str) -> bool:
        return self._origins.any or host in self._names or host.endswith((".localhost", ".local", ".internal"))

    def _preflight(self, origin: str, headers: Headers) -> Response:
        """Allows the headers that were asked for: the origin is trusted, and a list would never be whole."""
        response = Response(status_code=204)
        response.headers.update(
            {
                "Access-Control-Allow-Methods": _ALLOW_METHODS,
                "Access-Control-Allow-Headers": headers.get("access-control-request-headers") or _ALLOW_HEADERS,
                "Access-Control-Max-Age": "43200",
                "Access-Control-Allow-Origin": "*" if self._origins.any else origin,
            }
        )
        if not self._origins.any:
            response.headers["Vary"] = ", ".join(_PREFLIGHT_VARY)
        return response

    def _with_origin(self, send: Send, origin: str) -> Send:
        async def send_with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = "*" if self._origins.any else origin
                headers["Access-Control-Expose-Headers"] = _EXPOSE_HEADERS
                if not self._origins.any:
                    headers.add_vary_header("Origin")
            await send(message)

        return send_with_origin


def _foreign_origin(headers: Headers) -> str:
    """The Origin header, or "" when there is none or it is the server itself."""
    origin = headers.get("origin", "")
    host = headers.get("host", "")
    return "" if origin in {f"http://{host}", f"https://{host}"} else origin


def _needs_no_key(path: str) -> bool:
    """The sign of life, and the page's files: they are the same for everybody, and ask the API with the user's key."""
    return path in {"/", "/ui"} or path.startswith("/ui/")


def _host_part(host: str) -> str:
    """A Host header without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _shown_key(headers: Headers, path: str) -> bytes:
    """A bearer token, x-api-key, or the password that OCI clients send for their user."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic" and _is_registry(path):
        try:
            return base64.b64decode(token.strip(), validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return (token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode("utf-8", "replace")


def _is_registry(path: str) -> bool:
    return path == "/v2" or path.startswith("/v2/")


def _unauthorized(path: str) -> Response:
    text = "unauthorized: a valid API key is required"
    response = _refused(path, 401, text, "authentication_error", "invalid_api_key")
    response.headers["WWW-Authenticate"] = 'Basic realm="corral"' if _is_registry(path) else "Bearer"
    return response


def _refused(path: str, status: int, text: str, kind: str, code: str | None = None) -> Response:
    """A refusal in the form of the API that the path belongs to."""
    body: dict[str, Any] = {"error": text}
    if path.startswith("/v1/messages"):
        error: dict[str, Any] = {"type": kind, "message": text}
        body = {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"}
    elif _is_registry(path):
        body = {"errors": [{"code": "UNAUTHORIZED" if status == 401 else "DENIED", "message": text}]}
    elif path.startswith("/v1/"):
        error = {"message": text, "type": kind, "param": None, "code": code}
        body = {"error": error}
    return Response(encode(body), status, media_type="application/json; charset=utf-8")
