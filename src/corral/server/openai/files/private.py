"""Files and folders that only this server's user may read: written whole or not at all. Blocking code."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from corral.store.files import full_disk_as_error, make_directory, sync_directory

_TEMPORARY = ".corral-tmp-"


def private_folder(path: Path) -> Path:
    """`path`, made with mode 0700, as are those of its parents that are missing below the home's own."""
    missing = [path]
    while not missing[-1].parent.is_dir() and len(missing) < 3:
        missing.append(missing[-1].parent)
    make_directory(missing[-1].parent)
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    return path


def new_temporary(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file of mode 0600 under a name that nobody lists; it goes with `sweep` when its writer dies."""
    path = private_folder(folder) / f"{_TEMPORARY}{secrets.token_hex(8)}"
    return path, os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b")


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name, and is durable, once the block has ended without an error. Raises NotEnoughSpace."""
    with full_disk_as_error(path.parent):
        temporary, file = new_temporary(path.parent)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def sweep(folder: Path) -> None:
    """Delete what writers that are dead have left; for the start, before anything is written."""
    for path in folder.rglob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)
