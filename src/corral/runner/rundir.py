"""The server's runtime directory: short, private, gone with the server. Used by launch.py.

Each server holds a lock on its directory; a directory whose lock is free belongs to a dead server and is swept by the
next one that starts. Plain blocking code.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from pathlib import Path

_LOG = logging.getLogger(__name__)
_PREFIX = "corral-"
_LOCK = "lock"
_LONGEST_SOCKET_PATH = 107  # sun_path is 108 bytes with its NUL; macOS has 104
_LONGEST_TAIL = len("/1234567890/s.sock")


class RuntimeDir:
    """A 0700 directory below `parent` (XDG_RUNTIME_DIR, else the temporary directory), held until close().

    Falls back to the temporary directory when `parent` is missing or too long for a socket path.
    """

    def __init__(self, parent: Path | None = None) -> None:
        base = parent if parent is not None and _usable(parent) else Path(tempfile.gettempdir())
        if not _usable(base):
            base = Path("/tmp")  # noqa: S108  mkdtemp makes a private directory below it
        sweep(base)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._lock_fd = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        self._count = 0

    def next(self) -> Path:
        """A fresh name for one runner's directory; not made yet."""
        self._count += 1
        return self.path / str(self._count)

    def close(self) -> None:
        """Remove the directory with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def sweep(base: Path) -> int:
    """Remove the directories of servers that died without cleaning up; how many."""
    swept = 0
    for path in base.glob(f"{_PREFIX}*"):
        if path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.geteuid():
            continue
        if _abandoned(path / _LOCK):
            _LOG.info("removing the runtime directory of a dead server: %s", path)
            shutil.rmtree(path, ignore_errors=True)
            swept += 1
    return swept


def _abandoned(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # no lock yet: it may be starting this moment
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def _usable(path: Path) -> bool:
    longest = len(os.fsencode(path)) + len(f"/{_PREFIX}12345678") + _LONGEST_TAIL
    return path.is_dir() and os.access(path, os.W_OK) and longest <= _LONGEST_SOCKET_PATH - 4
