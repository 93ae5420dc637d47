"""All batches of a server: made, listed, cancelled, and gone on with after a start. ADR 28.

How many lines are asked at once is bounded over all batches together; that they give way to everybody else is the
scheduler's part (sched/giveway.py).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette

from corral.aio import run_blocking, run_settled
from corral.api.batches import BatchObject, BatchRequest
from corral.config import Settings
from corral.errors import InvalidRequest, ServerClosing
from corral.server.holders import Holders
from corral.server.openai.batches.asking import Answered, ask
from corral.server.openai.batches.lines import ENDPOINTS
from corral.server.openai.batches.run import BatchRun
from corral.server.openai.batches.store import ENDED, BatchStore
from corral.server.openai.encoding import ordered_id
from corral.server.openai.files.private import sweep
from corral.server.openai.files.store import EVERYBODY, EXPIRY_S, files_of

log = logging.getLogger(__name__)

_SLOTS = 4  # what a model usually has, where memory allows
_WORKERS = 16  # of a batch, at least: lines that are read, and asked when they may be
_WINDOW = re.compile(r"([1-9]\d{0,3})([hd])\Z")
_LONGEST_WINDOW_S = 30 * 86400
_MOST_METADATA, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512  # as OpenAI has it


class BatchLane:
    """The batches of all holders of keys. All methods belong to the event loop's thread."""

    def __init__(self, settings: Settings, holders: Holders, nodes: Callable[[], int] = lambda: 1) -> None:
        """nodes: how many machines there are to spread lines over."""
        self._settings = settings
        self._holders = holders
        self._nodes = nodes
        self._asking = 0
        self._asked_one = asyncio.Condition()
        self._runs: dict[tuple[str, str], BatchRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._app: Starlette | None = None

    async def start(self, app: Starlette) -> None:
        """Ask through this app from now on, and go on with what had not ended."""
        self._app = app
        home = self._settings.home
        for folder in (home / "files", home / "batches"):
            await run_blocking(sweep, folder)
        owners = sorted(self._holders.ids) if self._holders else [""]
        for owner in owners:
            for batch in reversed(await run_blocking(self.store(owner).all)):
                if batch.status not in ENDED:
                    log.info("batch %s goes on: it was %s", batch.id, batch.status)
                    self._begin(owner, batch)

    async def close(self) -> None:
        """Give up what is being asked; the batches go on at the next start."""
        self._app = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(self, owner: str, wanted: BatchRequest) -> BatchObject:
        """A new batch. Raises InvalidRequest, NotKept for its input, ServerClosing."""
        if self._app is None:
            raise ServerClosing()
        window_s = _check(wanted)
        now = int(time.time())
        batch = BatchObject(
            id=ordered_id("batch_"),
            endpoint=wanted.endpoint,
            input_file_id=wanted.input_file_id,
            completion_window=wanted.completion_window,
            created_at=now,
            expires_at=now + window_s,
            output_expires_after=wanted.output_expires_after,
            metadata=wanted.metadata,
        )
        files, store = files_of(self._settings, owner), self.store(owner)

        def add() -> None:
            source = files.get(wanted.input_file_id)
            if source.purpose != "batch":
                raise InvalidRequest(f"the file's purpose is {source.purpose!r}, not 'batch'", field="input_file_id")
            store.add(batch, files.folder / source.id)

        await run_settled(add)
        self._begin(owner, batch)
        return batch

    async def get(self, owner: str, batch_id: str) -> BatchObject:
        """A batch as it is now. Raises NotKept."""
        run = self._runs.get((owner, batch_id))
        return run.batch if run is not None else await run_blocking(self.store(owner).get, batch_id)

    async def all(self, owner: str) -> list[BatchObject]:
        """The holder's batches, newest first."""
        kept = await run_blocking(self.store(owner).all)
        return [self._runs[owner, each.id].batch if (owner, each.id) in self._runs else each for each in kept]

    async def cancel(self, owner: str, batch_id: str) -> BatchObject:
        """Ask no more of its lines. Raises NotKept, InvalidRequest when it has ended."""
        batch, run = await self.get(owner, batch_id), self._runs.get((owner, batch_id))
        if run is None or batch.status not in {"validating", "in_progress", "cancelling"}:
            raise InvalidRequest(f"Cannot cancel a batch with status '{batch.status}'.")
        if batch.status != "cancelling":
            await run.cancel()
        return batch

    def _most(self) -> int:
        """How many lines may be asked at once, over all batches."""
        slots = self._settings.num_parallel or _SLOTS
        return self._settings.batch_parallel or slots * max(1, self._nodes())

    @asynccontextmanager
    async def _permit(self) -> AsyncIterator[None]:
        """The right to ask one line; waits until there is one."""
        async with self._asked_one:
            await self._asked_one.wait_for(lambda: self._asking < self._most())
            self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            async with self._asked_one:
                self._asked_one.notify_all()  # there may be room for more than one: nodes come

    def store(self, owner: str) -> BatchStore:
        """Where a holder's batches are kept."""
        return BatchStore(self._settings.home / "batches" / (owner or EVERYBODY), self._settings.files_keep_s)

    def _begin(self, owner: str, batch: BatchObject) -> None:
        holder = self._holders.by_id(owner)

        async def ask_line(endpoint: str, body: dict[str, Any], given_way: int) -> Answered:
            async with self._permit():
                if self._app is None:
                    raise asyncio.CancelledError
                counts = batch.request_counts
                left = counts.total - counts.completed - counts.failed
                return await ask(self._app, holder, batch.id, endpoint, body, given_way, left)

        files = files_of(self._settings, owner)
        run = BatchRun(batch, self.store(owner), files, ask_line, lambda: max(_WORKERS, self._most()))
        self._runs[owner, batch.id] = run

        async def work() -> None:
            try:
                await run.run()
            finally:
                self._runs.pop((owner, batch.id))

        task = asyncio.create_task(work(), name=batch.id)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _check(wanted: BatchRequest) -> int:
    """Seconds of the window. Raises InvalidRequest."""
    if wanted.endpoint not in ENDPOINTS:
        raise InvalidRequest(f"endpoint is one of {', '.join(ENDPOINTS)}", field="endpoint")
    found = _WINDOW.match(wanted.completion_window)
    window_s = int(found[1]) * (3600 if found[2] == "h" else 86400) if found else 0
    if not 0 < window_s <= _LONGEST_WINDOW_S:
        raise InvalidRequest("completion_window is '24h', or another number of h or d", field="completion_window")
    after = wanted.output_expires_after
    if after is not None and (after.anchor != "created_at" or after.seconds not in EXPIRY_S):
        why = "output_expires_after has the anchor created_at, and 3600 to 2592000 seconds"
        raise InvalidRequest(why, field="output_expires_after")
    metadata = wanted.metadata or {}
    too_long = any(len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE for key, value in metadata.items())
    if len(metadata) > _MOST_METADATA or too_long:
        why = f"metadata has at most {_MOST_METADATA} keys of {_LONGEST_KEY} characters, values of {_LONGEST_VALUE}"
        raise InvalidRequest(why, field="metadata")
    return window_s
