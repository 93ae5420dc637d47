"""A registry in memory, on real loopback HTTP, that fails on command. Speaks what Ollama and OCI clients speak.

`faults` are asked, in order, about every request; the first that answers is used and counts itself down. Everything a
client did is in `seen`; `body_bytes` counts the blob bytes that went out.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
_BLOB = re.compile(r"/v2/(?P<repository>[^/]+/[^/]+)/blobs/(?P<digest>sha256:[0-9a-f]{64})\Z")
_MANIFEST = re.compile(r"/v2/(?P<repository>[^/]+/[^/]+)/manifests/(?P<tag>[^/]+)\Z")
_UPLOADS = re.compile(r"/v2/(?P<repository>[^/]+/[^/]+)/blobs/uploads/(?P<session>\d*)\Z")
_CHUNK = 16_384
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    """`sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class FakeRegistry:
    """State and behaviour; `serve` it."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    body_bytes: int = 0
    has_ranges: bool = True
    relative_locations: bool = False
    redirect_to: str = ""  # base URL that serves the blobs instead
    token: str = ""  # demanded of every request when set
    realm: str = ""  # of the challenge; the registry's own by default
    url: str = ""
    pace_s: float = 0.0  # pause between the chunks of a blob

    @property
    def host(self) -> str:
        """host:port, as model names have it."""
        return self.url.removeprefix("http://")

    def add_model(self, repository: str, tag: str, layers: dict[str, bytes], config: bytes = b"{}") -> bytes:
        """Publish a model (media type -> blob); returns the manifest's bytes."""
        entries = []
        for media_type, data in layers.items():
            self.blobs[digest_of(data)] = data
            entries.append({"mediaType": media_type, "digest": digest_of(data), "size": len(data)})
        self.blobs[digest_of(config)] = config
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": digest_of(config),
                "size": len(config),
            },
            "layers": entries,
        }
        raw = json.dumps(document, indent=1).encode()  # not the form anybody else writes
        self.manifests[repository, tag] = raw
        return raw

    def blob_requests(self) -> list[Seen]:
        """The GETs of blobs so far."""
        return [seen for seen in self.seen if seen.method == "GET" and "/blobs/" in seen.path]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeRegistry]:
        """Listen on a free port; all connections are closed at the end."""
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.addresses
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.BaseRequest)
        self.seen.append(Seen(request.method, request.path, dict(request.query), dict(request.headers)))
        for fault in list(self.faults):
            answer = await fault(request)  # type: ignore[arg-type]
            if answer is not None:
                return answer
        if request.path == "/token":
            return web.json_response({"token": self.token})
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            realm = self.realm or f"{self.url}/token"
            challenge = f'Bearer realm="{realm}",service="fake",scope="repository:x:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        if request.path == "/v2/":
            return web.json_response({})
        return await self._route(request)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if match := _BLOB.match(request.path):
            return await self._blob(request, match["digest"])
        if match := _UPLOADS.match(request.path):
            return await self._upload(request, match["repository"], match["session"])
        if match := _MANIFEST.match(request.path):
            key = (match["repository"], match["tag"])
            if request.method == "PUT":
                self.manifests[key] = await request.content.read()
                return web.Response(status=201)
            if key in self.manifests:
                return web.Response(body=self.manifests[key], content_type=MANIFEST_TYPE)
        return web.Response(status=404, text="not here")

    async def _blob(self, request: web.BaseRequest, digest: str) -> web.StreamResponse:
        if digest not in self.blobs:
            return web.Response(status=404, text="no such blob")
        if self.redirect_to and request.method == "GET":
            return web.Response(status=307, headers={"Location": f"{self.redirect_to}{request.path}?signed=secret"})
        return await send_blob(self, request, self.blobs[digest])

    async def _upload(self, request: web.BaseRequest, repository: str, session: str) -> web.StreamResponse:
        if request.method == "POST":
            if request.query.get("mount") in self.blobs:
                return web.Response(status=201)
            session = str(len(self.uploads) + 1)
            self.uploads[session] = bytearray()
        else:
            self.uploads[session] += await request.content.read()
        if request.method == "PUT":
            data = bytes(self.uploads.pop(session))
            if digest_of(data) != request.query["digest"]:
                return web.Response(status=400, text="digest invalid")
            self.blobs[digest_of(data)] = data
            return web.Response(status=201)
        base = "" if self.relative_locations else self.url
        location = f"{base}/v2/{repository}/blobs/uploads/{session}?state=a%2Fb"
        return web.Response(status=202, headers={"Location": location})


async def send_blob(
    registry: FakeRegistry,
    request: web.BaseRequest,
    data: bytes,
    *,
    cut_after: int | None = None,
    stall_after: int | None = None,
) -> web.StreamResponse:
    """Answer with a blob, or the range asked for; the connection breaks or hangs after so many bytes of it."""
    start, end, status = 0, len(data), 200
    headers = {}
    match = re.match(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
    if match and registry.has_ranges:
        start, end, status = int(match[1]), min(len(data), int(match[2]) + 1), 206
        if start >= len(data):
            return web.Response(status=416)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(end - start)})
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    sent = 0
    limit = min(value for value in (cut_after, stall_after, end - start) if value is not None)
    while sent < limit:
        chunk = data[start + sent : start + min(limit, sent + _CHUNK)]
        try:
            await response.write(chunk)
        except ConnectionError:
            return response  # the client has left
        sent += len(chunk)
        registry.body_bytes += len(chunk)
        await asyncio.sleep(registry.pace_s)
    if stall_after is not None and sent < end - start:
        await asyncio.Event().wait()
    if sent < end - start:
        assert request.transport is not None
        request.transport.close()
    return response


def times(count: int, path: str, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> Fault:
    """A fault for the first `count` GETs whose path contains `path`."""
    left = count

    async def fault(request: web.Request) -> web.StreamResponse | None:
        nonlocal left
        if left <= 0 or request.method != "GET" or path not in request.path:
            return None
        left -= 1
        return await answer(request)

    return fault


def status(count: int, path: str, code: int, headers: dict[str, str] | None = None, text: str = "") -> Fault:
    """The first `count` GETs of `path` get this status."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=code, headers=headers, text=text)

    return times(count, path, answer)


def cut(registry: FakeRegistry, count: int, after: int) -> Fault:
    """The first `count` blob GETs break after `after` bytes."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        data = registry.blobs[request.path.rpartition("/")[2]]
        return await send_blob(registry, request, data, cut_after=after)

    return times(count, "/blobs/", answer)


def stall(registry: FakeRegistry, count: int, after: int) -> Fault:
    """The first `count` blob GETs say nothing more after `after` bytes, and keep the connection."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        data = registry.blobs[request.path.rpartition("/")[2]]
        return await send_blob(registry, request, data, stall_after=after)

    return times(count, "/blobs/", answer)


def wrong_bytes(registry: FakeRegistry, count: int) -> Fault:
    """The first `count` blob GETs get the right number of wrong bytes."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        data = registry.blobs[request.path.rpartition("/")[2]]
        return await send_blob(registry, request, bytes(len(data)))

    return times(count, "/blobs/", answer)
