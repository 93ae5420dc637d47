"""Blobs for others of the cluster: whole or a range, as OCI registries serve them, so that transfer.py can fetch them.

Both the server and the agents have one `BlobShare` behind their listener. So many are sent at once; the others wait.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

from corral.aio import run_blocking
from corral.cluster.listener import Head, refusal
from corral.errors import InvalidRequest
from corral.names import Digest
from corral.regular import open_regular

REPOSITORY = "cluster/node"  # in the paths; it says nothing
_PATH = re.compile(r"/v2/cluster/node/blobs/(sha256:[0-9a-f]{64})\Z")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})\Z")
_AT_ONCE = 8
_PIECE_BYTES = 2**20
_STALL_S = 30.0  # for a piece


class BlobShare:
    """Serves what `find` finds; it is asked on the executor, with a digest, and knows the file or None."""

    def __init__(self, find: Callable[[Digest], Path | None]) -> None:
        self._find = find
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request; a listener's handler."""
        match = _PATH.fullmatch(head.path)
        path = await run_blocking(self._find, _digest(match[1])) if match and head.method == "GET" else None
        if path is None:
            writer.write(refusal(404))
            return
        async with self._turns:
            with await run_blocking(open_regular, path) as file:
                size = (await run_blocking(os.fstat, file.fileno())).st_size
                await self._send(writer, file, size, head.headers.get("range", ""))

    async def _send(self, writer: asyncio.StreamWriter, file: IO[bytes], size: int, wanted: str) -> None:
        match = _RANGE.fullmatch(wanted)
        start, end = (int(match[1]), min(int(match[2]) + 1, size)) if match else (0, size)
        if start >= end and size:
            writer.write(refusal(416))
            return
        lines = ["HTTP/1.1 206 Partial Content" if match else "HTTP/1.1 200 OK", f"Content-Length: {end - start}"]
        if match:
            lines.append(f"Content-Range: bytes {start}-{end - 1}/{size}")
        lines += ["Content-Type: application/octet-stream", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        while start < end:
            data = await run_blocking(os.pread, file.fileno(), min(_PIECE_BYTES, end - start), start)
            if not data:
                return  # cut while it was read; the receiver misses bytes, and asks elsewhere
            start += len(data)
            writer.write(data)
            async with asyncio.timeout(_STALL_S):
                await writer.drain()


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidRequest:  # the pattern has read it already
        raise AssertionError(text) from None
