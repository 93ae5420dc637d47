"""`Pusher`: a whole model from the store to a registry: blobs one after the other, then the manifest.

The manifest goes out byte for byte, so that a model has the same digest here, there, and wherever it is pulled to.
(Ollama writes it anew.) Source of statuses: ollama server/images.go PushModel, 2026-08.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from corral.aio import run_settled
from corral.core import TransferStatus
from corral.inflight import InFlight
from corral.names import Digest, ModelName
from corral.registry.client import MANIFEST_TYPE, RegistryClient, Repository
from corral.registry.endpoints import Endpoints, insecure_notice
from corral.registry.upload import BlobUpload
from corral.store.manifests import Layer
from corral.store.models import ModelStore


class Pusher:
    """Pushes models; uploads of one digest to one repository are shared."""

    def __init__(self, store: ModelStore, endpoints: Endpoints, client: RegistryClient) -> None:
        self._store = store
        self._endpoints = endpoints
        self._client = client
        self._inflight: InFlight[tuple[Repository, Digest]] = InFlight()

    async def close(self) -> None:
        """Stop all uploads."""
        await self._inflight.close()

    async def push(self, name: ModelName, *, insecure: bool = False) -> AsyncGenerator[TransferStatus, None]:
        """Send a model. Raises, before the first status, ModelNotFound and BlobMissing; later RegistryError."""
        model = await run_settled(self._store.load, name)
        yield TransferStatus("retrieving manifest")
        repository = await self._endpoints.origin(name, insecure=insecure)
        for layer in model.manifest.all_layers:
            async with aclosing(self._push_blob(repository, layer)) as statuses:
                async for status in statuses:
                    yield status
        yield TransferStatus("pushing manifest")
        url, headers = repository.url("manifests", name.tag), {"Content-Type": MANIFEST_TYPE}
        async with self._client.open(repository, "PUT", url, headers=headers, body=model.manifest.encode()):
            pass
        notice = insecure_notice(repository)
        yield TransferStatus("success", notices=(notice,) if notice else ())

    async def _push_blob(self, repository: Repository, layer: Layer) -> AsyncGenerator[TransferStatus, None]:
        status, digest = f"pushing {layer.digest.short}", str(layer.digest)
        path = self._store.blobs.path(layer.digest)
        progress = self._inflight.follow(
            (repository, layer.digest), lambda: BlobUpload(self._client, repository, layer, path)
        )
        async with aclosing(progress):
            async for completed in progress:
                yield TransferStatus(status, digest, layer.size, completed)
        yield TransferStatus(status, digest, layer.size, layer.size)
