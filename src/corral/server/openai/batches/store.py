"""The batches of one holder of a key on disk. Blocking code; runs on the executor.

<home>/batches/<holder>/batch_<id>/batch.json     the batch as clients see it, written whole at every new state
                                   input.jsonl    a link to its input, which may be deleted meanwhile
                                   results        its journal; both go when the batch has ended
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from pathlib import Path

import msgspec

from corral.api.batches import BatchObject
from corral.errors import InvalidRequest, NotKept
from corral.server.openai.files.private import private_folder, writing_whole

MAX_BATCHES = 1000
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_ID = re.compile(r"batch_[0-9A-Za-z]{1,64}\Z")


class BatchStore:
    """Batches below `folder`; ended ones are kept for `keep_s`."""

    def __init__(self, folder: Path, keep_s: float) -> None:
        self._folder = folder
        self._keep_s = keep_s

    def add(self, batch: BatchObject, source: Path) -> None:
        """A new batch over the file `source`. Raises InvalidRequest when there are too many."""
        if len(self.all()) >= MAX_BATCHES:
            raise InvalidRequest(f"there are {MAX_BATCHES} batches already")
        place = private_folder(self.place(batch.id))
        try:
            (place / "input.jsonl").hardlink_to(source)
        except OSError:  # a file system without links
            shutil.copyfile(source, place / "input.jsonl")
        self.save(batch)

    def save(self, batch: BatchObject) -> None:
        """Keep a batch's state."""
        with writing_whole(self.place(batch.id) / "batch.json") as file:
            file.write(msgspec.json.encode(batch))

    def get(self, batch_id: str) -> BatchObject:
        """A batch. Raises NotKept."""
        if not _ID.match(batch_id):
            raise NotKept("Batch", batch_id[:100])
        try:
            return msgspec.json.decode((self.place(batch_id) / "batch.json").read_bytes(), type=BatchObject)
        except (OSError, msgspec.DecodeError) as error:
            raise NotKept("Batch", batch_id) from error

    def all(self) -> list[BatchObject]:
        """The batches, newest first; ended ones whose time is over are deleted."""
        found = []
        for path in self._folder.glob("batch_*/batch.json"):
            with contextlib.suppress(NotKept):
                batch = self.get(path.parent.name)
                if batch.status in ENDED and time.time() > batch.created_at + self._keep_s:
                    shutil.rmtree(path.parent, ignore_errors=True)
                else:
                    found.append(batch)
        return sorted(found, key=lambda batch: (batch.created_at, batch.id), reverse=True)

    def forget_work(self, batch_id: str) -> None:
        """Delete what an ended batch needs no more."""
        for name in ("input.jsonl", "results"):
            (self.place(batch_id) / name).unlink(missing_ok=True)

    def place(self, batch_id: str) -> Path:
        """The batch's folder."""
        return self._folder / batch_id
