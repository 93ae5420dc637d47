"""Reading the pipes on which a child writes: bytes as they come, and lines. Used by output.py.

Not through the event loop's pipe transport: uvloop's closes the descriptor and then the file object it came with, which
closes the same number again. By then it may be a file that another thread has just opened; seen with uvloop 0.22 as a
create that failed with "Bad file descriptor" when a runner ended at that moment.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

LONGEST_LINE = 2**16
_CHUNK_BYTES = 2**16
_MOST_LEFT_BYTES = 2**20


class PipeReader:
    """The reading end of a pipe; owns `fd`, and closes it once."""

    def __init__(self, fd: int, chunk_bytes: int = _CHUNK_BYTES) -> None:
        self._fd = fd
        self._chunk_bytes = chunk_bytes
        self._readable = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable.set)

    async def read(self) -> bytes:
        """What has come, as soon as something has; empty when all writers have closed."""
        while True:
            await self._readable.wait()
            self._readable.clear()
            try:
                return os.read(self._fd, self._chunk_bytes)
            except BlockingIOError:
                continue

    def rest(self) -> bytes:
        """What can be read without waiting. Of a dead writer that is all there is, however late it is asked for."""
        left = bytearray()
        try:
            while len(left) < _MOST_LEFT_BYTES and (chunk := os.read(self._fd, _CHUNK_BYTES)):
                left += chunk
        except BlockingIOError:
            pass
        return bytes(left)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._loop.remove_reader(fd)
            os.close(fd)


async def read_lines(fd: int) -> AsyncGenerator[bytes, None]:
    """The lines without their ends, until all writers have closed; owns `fd`, and closes it once.

    Raises ValueError for a line over LONGEST_LINE bytes.
    """
    pipe = PipeReader(fd)
    try:
        rest = b""
        while chunk := await pipe.read():
            *lines, rest = (rest + chunk).split(b"\n")
            if max(map(len, (rest, *lines))) > LONGEST_LINE:
                raise ValueError("the line is too long")
            for line in lines:
                yield line
    finally:
        pipe.close()
