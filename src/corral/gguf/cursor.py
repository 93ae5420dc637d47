"""Bounds-checked reading through a file's header: the only place that turns file bytes into numbers and strings.

The file is read in windows with `pread` and never mapped: when a mapped file shrinks or its disk fails, the kernel
kills the process that touches the page; a short read is an InvalidGGUF instead. Windows cost nothing measurable
(a 256k vocabulary is stepped over in about 40 ms either way, all of it the loop over string lengths).
"""

from __future__ import annotations

import os
import struct

from corral.errors import InvalidGGUF

MAX_STRING_BYTES = 16 * 2**20
MAX_ELEMENT_BYTES = 2**20  # of an array of strings; the longest tokens have a few hundred
WINDOW_BYTES = 256 * 2**10
_U64 = struct.Struct("<Q")


class Cursor:
    """A position in an open file; `position` is absolute, nothing past `size` is ever read."""

    def __init__(self, fd: int, size: int, position: int = 0) -> None:
        self._fd = fd
        self.size = size
        self.position = position
        self._window = b""
        self._start = 0

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes; raises InvalidGGUF naming `what` when the file has fewer."""
        self._require(count, what)
        offset = self.position - self._start
        if offset + count > len(self._window):
            self._refill(max(count, WINDOW_BYTES), what)
            offset = 0
            if count > len(self._window):
                raise InvalidGGUF(f"the file ends inside {what}", self.position)
        self.position += count
        return self._window[offset : offset + count]

    def number(self, layout: struct.Struct, what: str) -> int:
        """The next integer."""
        return int(layout.unpack(self.take(layout.size, what))[0])

    def string(self, what: str, most_bytes: int = MAX_STRING_BYTES) -> str:
        """The next length-prefixed string; bytes that are no UTF-8 become U+FFFD."""
        at = self.position
        length = self.number(_U64, what)
        if length > most_bytes:
            raise InvalidGGUF(f"{what} is {length} bytes long, the limit is {most_bytes}", at)
        return self.take(length, what).decode("utf-8", "replace")

    def skip(self, count: int, what: str) -> None:
        """Step over bytes without reading them."""
        self._require(count, what)
        self.position += count

    def skip_strings(self, count: int, what: str) -> None:
        """Step over `count` length-prefixed strings, reading only their lengths."""
        unpack = _U64.unpack_from
        left = count
        while left:
            self._require(_U64.size, what)
            self._refill(WINDOW_BYTES, what)
            window, offset, before, done = self._window, 0, 0, left
            try:
                for index in range(left):
                    done = index
                    (length,) = unpack(window, offset)
                    before = offset
                    offset += 8 + length
                done = left
            except (struct.error, OverflowError):
                pass  # the next length lies outside the window; the checks below tell outside the file
            self._check_length(offset - before - 8, self._start + before, what)
            self.position = self._start
            self.skip(offset, what)
            left -= done

    def _check_length(self, length: int, at: int, what: str) -> None:
        # Only the last string before a window ends can be longer than the window, so it alone needs the check.
        if length > MAX_STRING_BYTES:
            raise InvalidGGUF(f"a string of {what} is {length} bytes long, the limit is {MAX_STRING_BYTES}", at)

    def _require(self, count: int, what: str) -> None:
        if count > self.size - self.position:
            raise InvalidGGUF(f"the file ends inside {what}", self.position)

    def _refill(self, count: int, what: str) -> None:
        pieces, offset = [], self.position
        wanted = min(count, self.size - offset)
        while wanted > 0:
            piece = os.pread(self._fd, wanted, offset)
            if not piece:  # the file shrank since its size was taken
                raise InvalidGGUF(f"the file ends inside {what}", offset)
            pieces.append(piece)
            offset += len(piece)
            wanted -= len(piece)
        self._window = b"".join(pieces)
        self._start = self.position
