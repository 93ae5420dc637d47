"""`Puller`: a whole model from a registry into the store: manifest, blobs one after the other, manifest written.

Source of statuses and texts: ollama server/images.go PullModel, 2026-08.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager

from corral.aio import run_settled
from corral.core import TransferStatus
from corral.errors import CorralError, DigestMismatch, InvalidRequest, ModelDamaged, ModelNotFound, RegistryError
from corral.inflight import InFlight
from corral.names import Digest, ModelName
from corral.registry.client import Repository
from corral.registry.endpoints import Endpoints, insecure_notice
from corral.registry.remote import read_verdict
from corral.registry.transfer import BlobDownload, Downloading
from corral.store.manifests import MODEL, TENSOR, Layer, Manifest
from corral.store.models import ModelStore

_log = logging.getLogger(__name__)
_WORTH_A_LOOK_BYTES = 16 * 2**20  # of weights: smaller ones are here as soon as their header


class Puller:
    """Pulls models; downloads of one digest are shared between all pulls."""

    def __init__(self, store: ModelStore, endpoints: Endpoints, shared: Downloading) -> None:
        self._store = store
        self._endpoints = endpoints
        self._shared = shared
        self._inflight: InFlight[Digest] = InFlight()

    async def close(self) -> None:
        """Stop all downloads; they stay resumable."""
        await self._inflight.close()

    async def pull(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[TransferStatus, None]:
        """Bring a model here. Closing the iterator stops what nobody else waits for; it stays resumable.

        Raises RegistryError, DigestMismatch, NotEnoughSpace.
        """
        sources = await self._endpoints.sources(name, insecure=insecure)
        yield TransferStatus("pulling manifest")
        manifest, source = await self._read_manifest(sources, name)
        before = await run_settled(self._digests_now, name)
        async with reserved(self._store, manifest.digests):
            await run_settled(self._check_space, manifest)
            if why_not := await self._why_not(manifest, source):
                yield TransferStatus(f"{name.short} {why_not}")
            for layer in manifest.all_layers:
                async with aclosing(self._pull_blob(layer, sources)) as statuses:
                    async for status in statuses:
                        yield status
            yield TransferStatus("verifying sha256 digest")  # done blob by blob, before each got its name
            yield TransferStatus("writing manifest")
            await run_settled(self._store.write, name, manifest)
        dropped = before - manifest.digests
        if dropped and not self._store.no_prune:
            yield TransferStatus("removing unused layers")
            problem = await run_settled(self._remove, dropped)
            if problem:
                yield TransferStatus(problem)
        notice = insecure_notice(source)
        yield TransferStatus("success", notices=(notice,) if notice else ())

    async def manifest(self, name: ModelName) -> Manifest:
        """What the registry has for this name now. Raises RegistryError."""
        return (await self._read_manifest(await self._endpoints.sources(name), name))[0]

    async def _read_manifest(self, sources: Sequence[Repository], name: ModelName) -> tuple[Manifest, Repository]:
        problem: CorralError | None = None
        for source in sources:
            try:
                raw = await self._shared.client.manifest(source, name.tag)
                return _usable(await run_settled(Manifest.parse, raw)), source
            except (RegistryError, InvalidRequest) as error:
                _log.info("manifest of %s from %s: %s", name, source.place, error)
                problem = error
        status = problem.status if isinstance(problem, RegistryError) else 0
        raise RegistryError(f"pull model manifest: {problem}", status) from problem

    async def _why_not(self, manifest: Manifest, source: Repository) -> str:
        """Why a large model that is not here yet could not run here; "" when it could, or when it cannot be told."""
        large = [layer for layer in manifest.of_type(MODEL) if layer.size >= _WORTH_A_LOOK_BYTES]
        if not large or await run_settled(self._store.blobs.has, large[-1].digest):
            return ""
        try:
            verdict = await read_verdict(
                self._shared.client, source, manifest, engine_is_ours=self._store.engine_is_ours
            )
        except (CorralError, OSError) as error:
            _log.info("%s is fetched without a look at its header: %s", large[-1].digest.short, error)
            return ""
        return "" if verdict.runs else str(verdict)

    def _digests_now(self, name: ModelName) -> set[Digest]:
        try:
            return self._store.manifests.read(name).digests
        except (ModelNotFound, ModelDamaged):
            return set()

    def _check_space(self, manifest: Manifest) -> None:
        blobs = self._store.blobs
        missing = {layer.digest: layer.size for layer in manifest.all_layers if not blobs.has(layer.digest)}
        need = 0
        for digest, size in missing.items():
            on_disk = 0
            with contextlib.suppress(FileNotFoundError):
                on_disk = blobs.partial_path(digest).stat().st_blocks * 512  # the file is sparse
            need += max(0, size - on_disk)
        blobs.check_space(need)

    async def _pull_blob(self, layer: Layer, sources: Sequence[Repository]) -> AsyncGenerator[TransferStatus, None]:
        status, digest = f"pulling {layer.digest.short}", str(layer.digest)
        while not await run_settled(self._is_present, layer):
            is_joined = layer.digest in self._inflight
            progress = self._inflight.follow(
                layer.digest, lambda: BlobDownload(self._shared, layer.digest, layer.size, sources)
            )
            try:
                async with aclosing(progress):
                    async for completed in progress:
                        yield TransferStatus(status, digest, layer.size, completed)
            except (RegistryError, DigestMismatch):
                if not is_joined:
                    raise
                _log.info("the shared download of %s failed; trying our own source", layer.digest.short)
        yield TransferStatus(status, digest, layer.size, layer.size)

    def _is_present(self, layer: Layer) -> bool:
        """Whether the blob is here. Raises RegistryError when it is and the manifest's size for it is wrong."""
        blobs = self._store.blobs
        if not blobs.has(layer.digest):
            return False
        size = blobs.size(layer.digest)
        if size != layer.size:
            try:
                blobs.verify(layer.digest)
            except DigestMismatch:
                _log.warning("blob %s is damaged on disk; it is fetched again", layer.digest)
                return False
            raise RegistryError(f"blob {layer.digest} has {size} bytes, the manifest says {layer.size}")
        blobs.touch(layer.digest)
        return True

    def _remove(self, dropped: Iterable[Digest]) -> str:
        try:
            self._store.release_unreferenced(dropped)
        except OSError as error:
            return f"couldn't remove unused layers: {error.strerror}"
        return ""


def _usable(manifest: Manifest) -> Manifest:
    if not manifest.layers:
        raise InvalidRequest("manifest has no layers")
    if manifest.of_type(TENSOR):
        raise InvalidRequest("this model requires MLX support, but the MLX runtime is not available")
    return manifest


@asynccontextmanager
async def reserved(store: ModelStore, digests: Iterable[Digest]) -> AsyncIterator[None]:
    """Keep blobs without a manifest from being cleaned up meanwhile."""
    reservation = store.blobs.reserve(digests)
    await run_settled(reservation.__enter__)
    try:
        yield
    finally:
        await run_settled(reservation.__exit__, None, None, None)
