"""`Creator`: one create call from request to manifest, as a stream of progress lines.

1. Check everything that can be told without work; errors here keep their HTTP status.
2. Get the base: another model's layers (pulled when absent), or the uploaded files, with a template detected.
3. Draft files and adapters.
4. Quantize, merge or complete the weights.
5. Template, system, licenses, parameters, messages, config.
6. A line a layer, small blobs, the manifest; then the blobs that only the old manifest knew are removed.

Until step 6 nothing but new weight blobs is written, and those go when the call fails or its caller leaves.
Called by the server. Source of the order: ollama server/create.go CreateHandler, 2026-08.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from corral.aio import iterate_blocking, run_blocking
from corral.core import TransferStatus
from corral.create.creation import Creation
from corral.create.request import CreateRequest, checked
from corral.store.models import ModelStore

Pull = Callable[[str], AsyncIterator[TransferStatus]]


class Creator:
    """Makes models in `store`; `pull` fetches a base model that is not there."""

    def __init__(self, store: ModelStore, pull: Pull) -> None:
        self._store = store
        self._pull = pull

    async def create(self, request: CreateRequest) -> AsyncIterator[TransferStatus]:
        """Make a model; yields progress and, last, `success` with notices.

        Raises InvalidRequest and its kin, QuantizationError, InvalidGGUF, BlobMissing, NotEnoughSpace, and what the
        pull raises. Closing the iterator undoes what was done.
        """
        work = Creation(self._store, await run_blocking(checked, request))
        await run_blocking(work.prepare)
        if work.must_pull:
            async with _closed_afterwards(self._pull(work.base_reference)) as statuses:
                async for status in statuses:
                    yield status
        async with _closed_afterwards(iterate_blocking(work.steps)) as statuses:
            async for status in statuses:
                yield status


@contextlib.asynccontextmanager
async def _closed_afterwards(statuses: AsyncIterator[TransferStatus]) -> AsyncIterator[AsyncIterator[TransferStatus]]:
    """An async generator that a caller stops reading is not closed by itself."""
    try:
        yield statuses
    finally:
        close = getattr(statuses, "aclose", None)
        if close is not None:
            await close()
