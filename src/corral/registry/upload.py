"""`BlobUpload`: one blob from the store to a registry. Push runs it, shared, through inflight.py.

HEAD (there already?), POST (a session, or a mount from a repository that has it), PATCH by parts, PUT to finish.
The part sizes and the `etag` of the finish are Ollama's; plain OCI registries ignore them.
Source: ollama server/upload.go, 2026-08.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
from yarl import URL

from corral.aio import run_settled
from corral.errors import InvalidModelName, RegistryError
from corral.names import ModelName
from corral.registry.client import RegistryClient, Repository, Unreachable, joined
from corral.store.manifests import Layer

_log = logging.getLogger(__name__)

_SMALLEST_PART_BYTES = 100 * 10**6
_LARGEST_PART_BYTES = 1000 * 10**6
_PARTS = 16
_READ_BYTES = 2**20


class BlobUpload:
    """One blob on its way up; `completed` of `layer.size` bytes have been sent. `run` once."""

    def __init__(self, client: RegistryClient, repository: Repository, layer: Layer, path: Path) -> None:
        self.completed = 0
        self._client = client
        self._repository = repository
        self._layer = layer
        self._path = path

    async def run(self) -> None:
        """Upload unless the registry has the blob. Raises RegistryError, FileNotFoundError."""
        policy, failures = self._client.policy, 0
        while True:
            try:
                await self._run_once()
            except RegistryError as error:
                failures += 1
                if failures >= policy.tries or not (isinstance(error, Unreachable) or error.status >= 500):
                    raise
                _log.info("upload of %s: %s; trying again", self._layer.digest.short, error)
                await policy.sleep(policy.delay_s(failures))
            else:
                self.completed = self._layer.size
                return

    async def _run_once(self) -> None:
        self.completed = 0
        if await self._is_there():
            return
        session = await self._begin()
        if session is not None:
            await self._finish(*await self._send_parts(session))

    async def _is_there(self) -> bool:
        url = self._repository.url("blobs", str(self._layer.digest))
        try:
            async with self._client.open(self._repository, "HEAD", url):
                return True
        except RegistryError as error:
            if error.status == 404:
                return False
            raise

    async def _begin(self) -> URL | None:
        """Where to send the bytes; None when the registry took the blob from another repository of its own."""
        url = self._repository.url("blobs", "uploads/")
        source = _repository_path(self._layer.source)
        if source:
            url = url.with_query({"mount": str(self._layer.digest), "from": source})
        async with self._client.open(self._repository, "POST", url, headers={"Content-Length": "0"}) as response:
            return None if response.status == 201 else _location(response)

    async def _send_parts(self, session: URL) -> tuple[URL, str]:
        size = self._layer.size
        step = min(_LARGEST_PART_BYTES, max(_SMALLEST_PART_BYTES, -(-size // _PARTS)))
        sums = []
        for start in range(0, size, step):
            part = _PartBody(self, self._path, start, min(step, size - start))
            session = await self._send_part(session, part)
            sums.append(part.md5.digest())
        whole = hashlib.md5(b"".join(sums), usedforsecurity=False).hexdigest()
        return session, f"{whole}-{len(sums)}"

    async def _send_part(self, session: URL, part: _PartBody) -> URL:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(part.size),
            "Content-Range": f"{part.start}-{part.start + part.size - 1}",
            "X-Redirect-Uploads": "1",
        }
        async with self._client.open(
            self._repository, "PATCH", session, headers=headers, body=part.chunks, is_patient=False
        ) as response:
            following = _location(response)
            if response.status != 307:
                return following
            target = _location(response, "Location")
        length = {"Content-Type": "application/octet-stream", "Content-Length": str(part.size)}
        async with self._client.open(
            self._repository, "PUT", target, headers=length, body=part.chunks, is_patient=False
        ):
            return following

    async def _finish(self, session: URL, etag: str) -> None:
        joint = "&" if session.query_string else "?"
        url = URL(f"{session}{joint}digest={quote(str(self._layer.digest), safe='')}&etag={etag}", encoded=True)
        async with self._client.open(self._repository, "PUT", url, headers={"Content-Length": "0"}):
            return


class _PartBody:
    """The bytes of one part; `md5` is of those sent in the last try."""

    def __init__(self, upload: BlobUpload, path: Path, start: int, size: int) -> None:
        self.start = start
        self.size = size
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._upload = upload
        self._path = path

    async def chunks(self) -> AsyncIterator[bytes]:
        """The part from its beginning, read and summed on the executor."""
        self.md5 = hashlib.md5(usedforsecurity=False)
        fd = await run_settled(os.open, self._path, os.O_RDONLY)
        try:
            position = self.start
            while position < self.start + self.size:
                data = await run_settled(self._read, fd, position)
                yield data
                position += len(data)
                self._upload.completed = position
        finally:
            await run_settled(os.close, fd)

    def _read(self, fd: int, position: int) -> bytes:
        data = os.pread(fd, min(_READ_BYTES, self.start + self.size - position), position)
        if not data:
            raise RegistryError("the blob was cut while it was sent")
        self.md5.update(data)
        return data


def _location(response: aiohttp.ClientResponse, *names: str) -> URL:
    """The next URL of an upload session, absolute or relative to this one; by default by either header."""
    for name in names or ("Docker-Upload-Location", "Location"):
        if text := response.headers.get(name, ""):
            return joined(response, text)
    raise RegistryError("the registry gave no Location for the upload", response.status)


def _repository_path(source: str) -> str:
    """The repository a layer came from; empty when its source is no model name (an uploaded file's name is none)."""
    try:
        return ModelName.parse(source).repository if source else ""
    except InvalidModelName:
        return ""
