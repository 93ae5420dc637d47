"""Opening files that somebody else may have put there: regular ones only, so that no read waits or goes on for ever.

A FIFO in the place of a blob would hold whoever opens it until a writer comes, a device would never end.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


class NotRegularFile(OSError):
    """A FIFO, a device, a socket; `strerror` says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "not a regular file", str(path))


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file (or what a link leads to, if that is one) for reading; raises OSError, NotRegularFile."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise NotRegularFile(path)
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise
