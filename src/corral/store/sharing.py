"""What each model has to itself: how many bytes come back when it is deleted. Blocking; called by GET /api/tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from corral.errors import BlobNotFound, CorralError
from corral.names import Digest, ModelName
from corral.store.models import ModelStore


def freed_by_delete(store: ModelStore) -> Mapping[ModelName, int]:
    """Bytes of the blobs, and of what was translated from them, that no other model refers to.

    Models whose manifest cannot be read are left out; while there is one, deleting another frees nothing.
    """
    digests: dict[ModelName, set[Digest]] = {}
    is_whole = True
    for name in store.manifests.names():
        try:
            digests[name] = store.manifests.read(name).digests
        except (CorralError, OSError):
            is_whole = False
    if not is_whole:
        return dict.fromkeys(digests, 0)
    users = Counter(digest for each in digests.values() for digest in each)
    derived: Counter[Digest] = Counter()
    for found in store.derived.files():
        if found.digest is not None:
            derived[found.digest] += found.path.stat().st_size
    return {
        name: sum(_size(store, digest) + derived[digest] for digest in each if users[digest] == 1)
        for name, each in digests.items()
    }


def _size(store: ModelStore, digest: Digest) -> int:
    try:
        return store.blobs.size(digest)
    except BlobNotFound:
        return 0
