"""Lines from the pipe on which a child reports. Used by handle.py.

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


async def read_lines(fd: int) -> AsyncGenerator[bytes, None]:
    """The lines without their ends, until all writers have closed; owns `fd`, and closes it once.

    Raises ValueError for a line over LONGEST_LINE bytes.
    """
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    os.set_blocking(fd, False)
    loop.add_reader(fd, readable.set)
    try:
        rest = b""
        while True:
            await readable.wait()
            readable.clear()
            try:
                chunk = os.read(fd, _CHUNK_BYTES)
            except BlockingIOError:
                continue
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            if max(map(len, (rest, *lines))) > LONGEST_LINE:
                raise ValueError("the line is too long")
            for line in lines:
                yield line
    finally:
        loop.remove_reader(fd)
        os.close(fd)
