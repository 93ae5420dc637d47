"""The files of one holder of a key, or of everybody where no keys are asked for. Blocking code; runs on the executor.

A file `file-<id>` lies in the holder's folder with a description beside it, `file-<id>.json`, which is written last:
what has none is not there. Bounded by total bytes, by the number of files and by age; nothing young is dropped
unasked, a file that does not fit is refused.
"""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import msgspec
from msgspec import UNSET

from corral.api.batches import FileObject
from corral.config import Settings
from corral.errors import BodyTooLarge, InvalidRequest, NotKept
from corral.server.openai.files.private import private_folder, writing_whole
from corral.store.files import sync_directory

MAX_FILE_BYTES = 200 * 10**6  # of a batch's input, as OpenAI has it
MAX_FILES = 10_000
EXPIRY_S = range(3600, 2_592_000 + 1)  # as OpenAI has it
EVERYBODY = "all"  # the folder where no keys are asked for
_ID = re.compile(r"file-[0-9A-Za-z]{1,64}\Z")
_MAX_NAME = 255


class FileStore:
    """Files below `folder`, at most `max_bytes` together, each for at most `keep_s`."""

    def __init__(self, folder: Path, max_bytes: int, keep_s: float) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._keep_s = keep_s

    def add(
        self, file_id: str, source: Path, *, name: str, purpose: str, expires_after_s: int = 0, bounded: bool = True
    ) -> FileObject:
        """Take over a file that lies in the folder already, under a temporary name; it may be there from before.

        bounded: False for results, which `check_results` bounds before there are any.
        Raises BodyTooLarge when the holder's files would have too many bytes, InvalidRequest for too many files.
        """
        private_folder(self.folder)
        size, now = source.stat().st_size, int(time.time())
        if bounded:
            self._check_room(size)
        kept = FileObject(id=file_id, bytes=size, created_at=now, filename=name[:_MAX_NAME] or "file", purpose=purpose)
        if expires_after_s:
            kept.expires_at = now + expires_after_s
        source.replace(self.folder / file_id)
        sync_directory(self.folder)
        with writing_whole(self.folder / f"{file_id}.json") as file:
            file.write(msgspec.json.encode(kept))
        return kept

    def get(self, file_id: str) -> FileObject:
        """A file's description. Raises NotKept."""
        if not _ID.match(file_id):
            raise NotKept("File", file_id[:100])
        try:
            found = msgspec.json.decode((self.folder / f"{file_id}.json").read_bytes(), type=FileObject)
        except (OSError, msgspec.DecodeError) as error:
            raise NotKept("File", file_id) from error
        if self._is_over(found):
            self._remove(file_id)
            raise NotKept("File", file_id)
        return found

    def path(self, file_id: str) -> Path:
        """Where its bytes are. Raises NotKept."""
        return self.folder / self.get(file_id).id

    def delete(self, file_id: str) -> None:
        """Forget a file. Raises NotKept."""
        self._remove(self.get(file_id).id)

    def all(self) -> list[FileObject]:
        """The files, newest first; those whose time is over are deleted."""
        found = []
        for path in self.folder.glob("file-*.json"):
            with contextlib.suppress(NotKept):
                found.append(self.get(path.stem))
        return sorted(found, key=lambda file: (file.created_at, file.id), reverse=True)

    def check_results(self, size: int) -> None:
        """Whether a batch may have results of so many bytes. Raises BodyTooLarge."""
        if size > self._max_bytes:
            why = f"the batch's results have more than {self._max_bytes} bytes (CORRAL_FILES_MAX)"
            raise BodyTooLarge(self._max_bytes, why)

    def _check_room(self, size: int) -> None:
        kept = self.all()
        if len(kept) >= MAX_FILES:
            raise InvalidRequest(f"there are {MAX_FILES} files already: delete some", field="file")
        if sum(file.bytes for file in kept) + size > self._max_bytes:
            why = f"the files would have more than {self._max_bytes} bytes: delete some, or raise CORRAL_FILES_MAX"
            raise BodyTooLarge(self._max_bytes, why)

    def _is_over(self, file: FileObject) -> bool:
        now = time.time()
        return now > file.created_at + self._keep_s or (file.expires_at is not UNSET and now > file.expires_at)

    def _remove(self, file_id: str) -> None:
        (self.folder / f"{file_id}.json").unlink(missing_ok=True)  # first: what has none is not there
        (self.folder / file_id).unlink(missing_ok=True)


def files_of(settings: Settings, owner: str) -> FileStore:
    """The files of a holder of a key; "" = where none are asked for."""
    return FileStore(settings.home / "files" / (owner or EVERYBODY), settings.files_bytes, settings.files_keep_s)
