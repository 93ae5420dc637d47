"""Durable files: directories and files with fixed modes, locked temp files, what stops a write as errors of ours.

Used by blobs, manifests and care. Modes are 0644 and 0755 whatever the umask, so that a store can be shared.

How processes keep out of each other's way: whoever writes a temp file or a partial download holds an exclusive
`flock` on it. The kernel drops the lock when the writer dies, however it dies, so "locked" means "somebody is at
work" with no pid to go stale and no clock to compare. Cleaning tries the lock without waiting and leaves what it
does not get. On file systems without locks everything counts as unlocked: two processes must not share a store there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from corral.errors import NotEnoughSpace, StoreNotWritable
from corral.regular import NotRegularFile, open_regular

FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
TEMP_PREFIX = "corral-tmp-"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}
_LOCKED = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_TRIES = 8

_log = logging.getLogger(__name__)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, 0755 whatever the umask; existing ones keep their mode."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(DIRECTORY_MODE)


def sync_directory(path: Path) -> None:
    """Make renames in `path` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free_bytes(path: Path) -> int:
    """What an ordinary user may still write on the file system that holds, or will hold, `path`."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def full_disk_as_error(path: Path, need_bytes: int = 0) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into NotEnoughSpace; `need_bytes` is what was to be written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NotEnoughSpace(need_bytes, free_bytes(path)) from error
        raise


@contextlib.contextmanager
def writing_to_store(path: Path, need_bytes: int = 0) -> Iterator[None]:
    """Turn what stops a write to the store into NotEnoughSpace or StoreNotWritable, which name no path."""
    try:
        with full_disk_as_error(path, need_bytes):
            yield
    except OSError as error:
        if error.errno in _NOT_OURS:
            raise StoreNotWritable(os.strerror(error.errno or 0).lower()) from error
        raise


def try_lock(file: IO[bytes]) -> bool:
    """Take the exclusive lock of an open file without waiting; False when another holder is at work."""
    return _flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked_directory(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of a directory, waiting for its holder; works on a full disk, too. For milliseconds."""
    make_directory(path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _flock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation)
    except OSError as error:
        if error.errno in _LOCKED:
            return False
        _log.debug("no file locks on this file system: %s", error)
    return True


def is_live(path: Path) -> bool:
    """Whether another open file holds the lock of `path`; False when the file is gone."""
    try:
        with open_regular(path) as file:
            return not try_lock(file)
    except (FileNotFoundError, IsADirectoryError, NotRegularFile):
        return False


def has_name(file: IO[bytes], path: Path) -> bool:
    """Whether `path` still names this open file; it may have been removed or renamed since it was opened."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def remove_if_dead(path: Path) -> int | None:
    """Remove a file unless somebody holds its lock; the bytes freed, or None when it stays or was gone already.

    The lock is held while the file is removed: who opens it meanwhile finds, once he has the lock, that it has lost
    its name (`has_name`), and makes a new one.
    """
    try:
        with open_regular(path) as file:
            if not try_lock(file):
                return None
            size = os.fstat(file.fileno()).st_size
            path.unlink()
            return size
    except FileNotFoundError:
        return None
    except NotRegularFile:
        path.unlink(missing_ok=True)
        return 0


def open_temp(directory: Path, prefix: str = TEMP_PREFIX) -> tuple[Path, IO[bytes]]:
    """A new, locked, empty file in `directory`, 0644."""
    make_directory(directory)
    for _ in range(_TRIES):
        path = directory / f"{prefix}{secrets.token_hex(8)}"
        file = path.open("x+b", buffering=0)
        try:
            os.fchmod(file.fileno(), FILE_MODE)
            # Between open and lock another process's cleaning may take the file for a dead one's and remove it.
            if try_lock(file) and has_name(file, path):
                return path, file
        except BaseException:
            file.close()
            path.unlink(missing_ok=True)
            raise
        file.close()
    raise OSError(errno.EBUSY, "temp files are removed as soon as they are made", str(directory))


def write_all(file: IO[bytes], data: bytes | bytearray | memoryview) -> None:
    """Write every byte to an unbuffered file; a short write is not the end."""
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view) :]


def write_atomically(path: Path, data: bytes, temp_directory: Path) -> None:
    """Replace `path` by `data`: readers see the old bytes or the new ones, also after a power cut.

    `temp_directory` lies on the same file system. Raises NotEnoughSpace, StoreNotWritable, leaving the old file as it
    was.
    """
    with writing_to_store(temp_directory, len(data)):
        temp, file = open_temp(temp_directory)
        try:
            with file:
                write_all(file, data)
                os.fsync(file.fileno())
                _move_into(temp, path)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise


def _move_into(temp: Path, path: Path) -> None:
    for attempt in range(_TRIES):
        try:
            make_directory(path.parent)
            temp.replace(path)
        except FileNotFoundError:
            # A deletion elsewhere may remove the directories while they are still empty.
            if attempt == _TRIES - 1 or not temp.exists():
                raise
            continue
        sync_directory(path.parent)
        return
