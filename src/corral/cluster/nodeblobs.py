"""`NodeBlobs`: the blobs of one node: those that it fetches for its runners, and those of a store that is there anyway.

What is fetched lies in a store of the node's own, `<home>/cluster/models`, so that no pruning of anybody's models
touches it and it touches nobody's. It is a cache: where its disk gets short, what was used longest ago goes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from yarl import URL

from corral.aio import run_blocking
from corral.cluster.sharing import REPOSITORY
from corral.cluster.wire import Need, Source
from corral.config import Settings
from corral.errors import BlobNotFound, InvalidRequest, RegistryError
from corral.inflight import InFlight
from corral.names import Digest
from corral.registry.client import RegistryClient, Repository, RetryPolicy
from corral.registry.rate import RateLimit
from corral.registry.transfer import BlobDownload, Downloading
from corral.runner.spec import RunnerSpec
from corral.store.blobs import BlobStore
from corral.store.files import free_bytes
from corral.store.models import ModelStore

log = logging.getLogger(__name__)
_AT_ONCE = 2  # blobs on their way; each has several streams
_SPARE_DISK_BYTES = 2**30
_PATIENCE = RetryPolicy(tries=3, first_delay_s=0.2, longest_delay_s=2.0, connect_s=4.0, stall_s=5.0)


class NodeBlobs:
    """`store` is the node's own; `close` it. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        own = settings.home / "cluster" / "models"
        self.store = ModelStore(own, engine_is_ours=not settings.llama_server)
        self._places = (self.store.blobs, BlobStore(settings.models))
        self._client = RegistryClient(_nobody, _PATIENCE, proxied=False)
        rate = RateLimit(settings.limit_rate, _PATIENCE.sleep)
        self._shared = Downloading(self._client, self.store.blobs, rate, settings.max_transfer_streams)
        self._inflight: InFlight[Digest] = InFlight(0.25)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._in_use: dict[Digest, int] = {}
        self._mutex = threading.Lock()

    async def close(self) -> None:
        """End what is on its way; it goes on from there when it is wanted again."""
        await self._inflight.close()
        await self._client.close()

    def find(self, digest: Digest) -> Path | None:
        """A blob's file. Blocking."""
        return next((place.path(digest) for place in self._places if place.has(digest)), None)

    def digests(self) -> tuple[str, ...]:
        """Of all blobs here. Blocking."""
        return tuple(sorted({str(digest) for place in self._places for digest in place.digests()}))

    async def fetch(self, needs: Sequence[Need]) -> AsyncGenerator[tuple[int, int], None]:
        """Have all of them here: (bytes so far, bytes in all), nothing when they are.

        Raises BlobNotFound where nobody has one, RegistryError, DigestMismatch, NotEnoughSpace.
        """
        missing = [need for need in needs if await run_blocking(self.find, Digest.parse(need.digest)) is None]
        total, done = sum(need.size_bytes for need in missing), 0
        for need in missing:
            digest, sources = Digest.parse(need.digest), [self._repository(each) for each in need.sources]
            if not sources:
                raise BlobNotFound(need.digest)
            job = _Fetch(self, digest, need.size_bytes, sources)
            async with aclosing(self._inflight.follow(digest, lambda job=job: job)) as steps:  # type: ignore[misc]
                async for completed in steps:
                    yield done + completed, total
            done += need.size_bytes
            yield done, total

    def _repository(self, source: Source) -> Repository:
        host = f"[{source.host}]" if ":" in source.host else source.host
        repository = Repository(URL(f"http://{host}:{source.port}"), REPOSITORY)
        self._client.admit(repository, source.token)
        return repository

    @contextmanager
    def used(self, spec: RunnerSpec) -> Iterator[RunnerSpec]:
        """The spec with this node's files in the place of those that it names; they stay here within the block.

        Blocking. Raises BlobNotFound.
        """
        local = self._localized(spec)
        digests = [Digest.parse(path.name) for path in local.readable_paths]
        with self._mutex:
            for digest in digests:
                self._in_use[digest] = self._in_use.get(digest, 0) + 1
        try:
            yield local
        finally:
            with self._mutex:
                for digest in digests:
                    self._in_use[digest] -= 1
                    if not self._in_use[digest]:
                        del self._in_use[digest]

    def _localized(self, spec: RunnerSpec) -> RunnerSpec:
        def here(path: Path) -> Path:
            try:
                digest = Digest.parse(path.name)
            except InvalidRequest:
                raise BlobNotFound(path.name) from None
            found = self.find(digest)
            if found is None:
                raise BlobNotFound(str(digest))
            if found.parent == self.store.blobs.directory:
                self.store.blobs.touch(digest)  # used last
            return found

        return with_paths(spec, here)

    def make_room(self, need_bytes: int) -> None:
        """Let go of what was used longest ago and no runner has, until there is room or nothing is left. Blocking."""
        blobs = self.store.blobs
        if not blobs.directory.is_dir():
            return
        oldest = sorted(blobs.digests(), key=lambda digest: blobs.path(digest).stat().st_mtime)
        for digest in oldest:
            if free_bytes(blobs.directory) >= need_bytes + _SPARE_DISK_BYTES:
                return
            with self._mutex:
                if digest not in self._in_use:
                    log.info("blob %s makes room for another", digest.short)
                    blobs.remove(digest)
                    self.store.derived.remove(digest)

    async def download(self, fetch: _Fetch) -> None:
        """Called by a fetch when it is its turn."""
        async with self._turns:
            await run_blocking(self.make_room, fetch.size)
            fetch.download = BlobDownload(self._shared, fetch.digest, fetch.size, fetch.sources)
            await fetch.download.run()


class _Fetch:
    """One blob on its way; an InFlight job."""

    def __init__(self, node: NodeBlobs, digest: Digest, size: int, sources: Sequence[Repository]) -> None:
        self.digest, self.size, self.sources = digest, size, sources
        self.download: BlobDownload | None = None
        self._node = node

    @property
    def completed(self) -> int:
        """Bytes so far."""
        return 0 if self.download is None else self.download.completed

    async def run(self) -> None:
        """Fetch it."""
        await self._node.download(self)
        log.info("blob %s is here", self.digest.short)


def with_paths(spec: RunnerSpec, change: Callable[[Path], Path]) -> RunnerSpec:
    """The spec with other paths."""
    return replace(
        spec,
        model_path=change(spec.model_path),
        projector_paths=tuple(change(path) for path in spec.projector_paths),
        adapter_paths=tuple(change(path) for path in spec.adapter_paths),
        draft_path=None if spec.draft_path is None else change(spec.draft_path),
    )


def paths_of(spec: RunnerSpec) -> Mapping[str, Path]:
    """The paths of a spec by their names."""
    return {path.name: path for path in spec.readable_paths}


def _nobody() -> NoReturn:
    raise RegistryError("a node asked who we are, although the token says it")
