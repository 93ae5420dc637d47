"""Conversations of earlier responses, so that `previous_response_id` can go on from them.

One JSON file a response under `<home>/responses`, or, where keys are asked for, in the folder of the key's holder
there; written whole or not at all, oldest dropped beyond the bounds, which are each holder's own. Plain synchronous
code; callers run it on the executor.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Sequence, Set
from pathlib import Path

import msgspec

from corral.core import Message
from corral.errors import ModelNotFound
from corral.store.files import make_directory

MAX_RESPONSES = 1000
MAX_BYTES = 256 * 2**20
_ID = re.compile(r"resp_[0-9A-Za-z]{1,64}\Z")
_OWNER = re.compile(r"[0-9a-f]{32}\Z")


class StoredResponse(msgspec.Struct):
    """What is kept: all messages up to and including the answer, and the reply as it was sent."""

    messages: list[Message]
    reply: msgspec.Raw


def forget_strangers(folder: Path, owners: Set[str]) -> None:
    """Delete what was kept for holders of keys that are accepted no longer."""
    for path in folder.glob("*/"):
        if _OWNER.match(path.name) and path.name not in owners:
            shutil.rmtree(path, ignore_errors=True)


class ResponseStore:
    """Bounded store of responses below `folder`."""

    def __init__(self, folder: Path, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_responses = max_responses
        self._max_bytes = max_bytes

    def load(self, response_id: str) -> StoredResponse:
        """A kept response; raises ModelNotFound (404) when it is not, or no longer, here."""
        try:
            data = self._path(response_id).read_bytes()
            return msgspec.json.decode(data, type=StoredResponse)
        except (OSError, msgspec.DecodeError, ValueError) as error:
            raise ModelNotFound(response_id, f"Response with id '{response_id}' not found.") from error

    def save(self, response_id: str, messages: Sequence[Message], reply: bytes) -> None:
        """Keep a response; drops the oldest beyond the bounds."""
        make_directory(self._folder.parent.parent)
        for folder in (self._folder.parent, self._folder):
            folder.mkdir(exist_ok=True, mode=0o700)
        data = msgspec.json.encode(StoredResponse(list(messages), msgspec.Raw(reply)))
        temporary = self._folder / f".{secrets.token_hex(8)}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path(response_id))
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._trim()

    def delete(self, response_id: str) -> None:
        """Forget a response; raises ModelNotFound (404) when it is not here."""
        try:
            self._path(response_id).unlink()
        except (OSError, ValueError) as error:
            raise ModelNotFound(response_id, f"Response with id '{response_id}' not found.") from error

    def _path(self, response_id: str) -> Path:
        if not _ID.match(response_id):
            raise ValueError(response_id)
        return self._folder / f"{response_id}.json"

    def _trim(self) -> None:
        entries = []
        for path in self._folder.glob("resp_*.json"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                entries.append((facts.st_mtime_ns, facts.st_size, path))
        entries.sort(reverse=True)
        total = 0
        for number, (_, size, path) in enumerate(entries):
            total += size
            if number and (number >= self._max_responses or total > self._max_bytes):
                path.unlink(missing_ok=True)
