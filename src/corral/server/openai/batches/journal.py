"""A batch's results as they come: a file that is appended to, and durable before a line counts as done. Blocking code.

Each record is a line of text:

    <line's index> <1 = answered, 0 = failed> <CRC-32 of what follows, 8 hexadecimal digits> <result as JSON>

Whoever opens the file reads it through and cuts off a last record that is not whole: a server that was killed, or a
machine that lost its power, has written that one at most. So each line is there once or not at all, and what is not
there is asked again. ADR 28.
"""

from __future__ import annotations

import os
import re
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

from corral.server.openai.files.private import private_folder, writing_whole
from corral.store.files import full_disk_as_error

_HEAD = re.compile(rb"(\d{1,9}) ([01]) ([0-9a-f]{8}) ")
_NOT_THERE = 2**64 - 1


class Journal:
    """The results of a batch of `lines` lines. ok, failed: how many there are of each."""

    def __init__(self, path: Path, lines: int) -> None:
        private_folder(path.parent)
        self.path = path
        self.ok = self.failed = self.size_bytes = 0
        self._places = array("Q", [_NOT_THERE]) * lines
        self._answered = bytearray(lines)
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        self._read()

    def __contains__(self, index: int) -> bool:
        return self._places[index] != _NOT_THERE

    def append(self, index: int, result: bytes, *, answered: bool, durable: bool = True) -> None:
        """Keep a line's result, once. Raises NotEnoughSpace, after which the file is as it was before.

        durable: on the disk before this returns.
        """
        assert index not in self, "a line's result is kept once"
        head = b"%d %d %08x " % (index, answered, zlib.crc32(result))
        try:
            with full_disk_as_error(self.path, len(result)):
                self._file.seek(self.size_bytes)
                self._file.write(head + result + b"\n")
                self._file.flush()
                if durable:
                    os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(self.size_bytes)
            raise
        self._note(index, answered, self.size_bytes)
        self.size_bytes += len(head) + len(result) + 1

    def write(self, path: Path, *, answered: bool) -> bool:
        """Write the results of one kind to a file of their own, in the input's order; False when there are none."""
        if not (self.ok if answered else self.failed):
            return False
        with writing_whole(path) as target:
            for result in self._results(answered):
                target.write(result)
        return True

    def close(self) -> None:
        """No more results."""
        self._file.close()

    def _results(self, answered: bool) -> Iterator[bytes]:
        for index, place in enumerate(self._places):
            if place != _NOT_THERE and self._answered[index] == answered:
                self._file.seek(place)
                record = self._file.readline()
                found = _HEAD.match(record)
                assert found is not None
                yield record[found.end() :]

    def _read(self) -> None:
        """Take note of every whole record, and drop what is behind the last of them."""
        for record in self._file:
            found = _HEAD.match(record)
            if found is None or not record.endswith(b"\n") or int(found[1]) >= len(self._places):
                break
            index = int(found[1])
            if zlib.crc32(record[found.end() : -1]) != int(found[3], 16) or index in self:
                break
            self._note(index, found[2] == b"1", self.size_bytes)
            self.size_bytes += len(record)
        self._file.truncate(self.size_bytes)

    def _note(self, index: int, answered: bool, place: int) -> None:
        self._places[index] = place
        self._answered[index] = answered
        self.ok += answered
        self.failed += not answered
