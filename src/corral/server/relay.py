"""Pull-through for `serve --share`: a model that is asked for and not here is fetched from its registry, once.

Off unless `CORRAL_SHARE_UPSTREAM` names what may be fetched.

Whoever asks first for a manifest begins a pull of the whole model, which goes on to its end whoever leaves; all others
join it. A blob on its way is served while it arrives: its partial file is read as far as its parts are there
(registry/parts.py), and its last byte only when the digest has been checked, so that nobody has a whole blob that is a
wrong one. Called by distribution.py.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import IO

from corral.aio import run_blocking
from corral.errors import CorralError, ModelNotFound
from corral.names import Digest, ModelName
from corral.registry import parts
from corral.registry.service import Registry
from corral.store.manifests import Layer, Manifest
from corral.store.models import ModelStore

log = logging.getLogger(__name__)

MOST_MODELS = 8  # on their way at once
_PIECE_BYTES = 2**20
_LOOK_S = 0.1


class TooMany(CorralError):
    """No further model is fetched now."""

    def __init__(self) -> None:
        super().__init__(f"{MOST_MODELS} models are being fetched already; try again later")


@dataclass
class _Coming:
    """A model on its way. manifest: None until it is here."""

    task: asyncio.Task[None]
    manifest: Manifest | None = None


class Relay:
    """Fetches models for others. patterns: of `namespace/model`, as of a shell; none = nothing is fetched."""

    def __init__(self, store: ModelStore, registry: Registry, patterns: Sequence[str]) -> None:
        self._store = store
        self._registry = registry
        self._patterns = tuple(pattern.lower() for pattern in patterns)
        self._coming: dict[ModelName, _Coming] = {}
        self._manifests: dict[ModelName, asyncio.Task[Manifest]] = {}

    async def close(self) -> None:
        """Stop all pulls; they stay resumable."""
        tasks = [coming.task for coming in self._coming.values()] + list(self._manifests.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def allows(self, name: ModelName) -> bool:
        """Whether this model may be fetched."""
        return any(fnmatch.fnmatchcase(name.repository.lower(), pattern) for pattern in self._patterns)

    async def manifest(self, name: ModelName) -> Manifest:
        """The manifest of a model that is on its way from now on. Raises TooMany, ModelNotFound, RegistryError."""
        coming = self._coming.get(name)
        if coming is not None and coming.manifest is not None:
            return coming.manifest
        if name not in self._manifests:
            if not self.allows(name):
                raise ModelNotFound(name.short)
            if len(self._coming) + len(self._manifests) >= MOST_MODELS:
                raise TooMany
            self._manifests[name] = asyncio.create_task(self._begin(name))
        return await asyncio.shield(self._manifests[name])

    async def _begin(self, name: ModelName) -> Manifest:
        try:
            manifest = await self._registry.manifest(name)
            log.info("%s is asked for and not here: it is fetched", name.short)
            self._coming[name] = _Coming(asyncio.create_task(self._pull(name)), manifest)
            return manifest
        finally:
            del self._manifests[name]

    async def _pull(self, name: ModelName) -> None:
        try:
            async with aclosing(self._registry.pull(name.full)) as statuses:
                async for _ in statuses:
                    pass
        except CorralError as error:
            log.warning("%s could not be fetched for others: %s", name.short, error)
        except Exception:
            log.exception("%s could not be fetched for others", name.short)
        finally:
            del self._coming[name]

    def layer(self, repository: str, digest: Digest) -> Layer | None:
        """What is on its way by this digest below this name."""
        for name, coming in self._coming.items():
            if coming.manifest is not None and name.repository.lower() == repository.lower():
                for layer in coming.manifest.all_layers:
                    if layer.digest == digest:
                        return layer
        return None

    async def stream(self, repository: str, layer: Layer, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes of a blob on its way from `start` to before `end`, as they come.

        Raises ConnectionError when it does not come: its answer has begun, and is cut.
        """
        file: IO[bytes] | None = None
        try:
            while start < end:
                there = await run_blocking(self._store.blobs.has, layer.digest)
                if file is None:
                    file = await run_blocking(self._open, layer.digest)
                ready = end if there else min(end, layer.size - 1, await run_blocking(self._ready, layer, start))
                if file is not None and ready > start:
                    data = await run_blocking(os.pread, file.fileno(), min(_PIECE_BYTES, ready - start), start)
                    start += len(data)
                    yield data
                    if data:
                        continue
                if not there and self.layer(repository, layer.digest) is None:
                    raise ConnectionError(f"blob {layer.digest} did not come")
                await asyncio.sleep(_LOOK_S)  # files have no event, and another process may fetch it
        finally:
            if file is not None:
                file.close()

    def _open(self, digest: Digest) -> IO[bytes] | None:
        for path in (self._store.blobs.path(digest), self._store.blobs.partial_path(digest)):
            try:
                return path.open("rb")
            except FileNotFoundError:
                continue
        return None

    def _ready(self, layer: Layer, start: int) -> int:
        """To where the partial file is written without a gap, from `start` on."""
        for part in parts.load(self._store.blobs.partial_path(layer.digest), layer.size, streams=1):
            if part.offset <= start < part.end:
                return part.start
        return 0
