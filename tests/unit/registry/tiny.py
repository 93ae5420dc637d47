"""The small model that the tests pull, and how they look at what arrived."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from tests.fakes.registry import FakeRegistry, digest_of

from corral.core import TransferStatus
from corral.names import Digest, ModelName
from corral.registry.service import Registry
from corral.store.models import ModelStore

WEIGHTS = b"".join(hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(50_000))  # 1.6 MB
TEMPLATE = b"{{ .Prompt }}"


def digest(data: bytes) -> Digest:
    return Digest.parse(digest_of(data))


def blob_names(store: ModelStore) -> set[str]:
    return set(store.blobs.file_names())


async def statuses_of(statuses: AsyncIterator[TransferStatus]) -> list[TransferStatus]:
    """All statuses of a transfer."""
    return [status async for status in statuses]


async def pull(registry: Registry, reference: str) -> list[TransferStatus]:
    return await statuses_of(registry.pull(reference, insecure=True))


def assert_whole(store: ModelStore, fake: FakeRegistry, reference: str) -> None:
    manifest = store.manifests.read(ModelName.parse(reference))
    assert manifest.raw == fake.manifests["library/tiny", "latest"]
    for layer in manifest.all_layers:
        store.blobs.verify(layer.digest)
    assert blob_names(store) == {layer.digest.filename for layer in manifest.all_layers}
