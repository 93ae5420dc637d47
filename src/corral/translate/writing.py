"""Carries a translation out: metadata first, then a tensor at a time, in pieces; the kernel copies whole runs."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from corral.gguf.encoding import encode_text
from corral.translate.content import PIECE_BYTES, SPAN_BYTES, Source, Span
from corral.translate.translation import Translation

_KERNEL_PIECE_BYTES = 64 * 2**20  # how much is copied between two reports of progress
# what copy_file_range says where the two files are not of a kind between which it copies
_NOT_IN_KERNEL = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM, errno.ETXTBSY}


def write(
    source: Path, translation: Translation, target: BinaryIO, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Write the translated file to `target`, from where it stands; `on_bytes` is told how many bytes it has by now.

    Raises UntranslatableModel when the source is shorter than its header said or has values that cannot be decoded,
    OSError when reading or writing fails; `target` then holds half a file.
    """
    with source.open("rb", buffering=0) as file:
        writer = _Writer(Source(file.fileno()), target, on_bytes)
        writer.put(translation.preamble())
        for key, value in translation.metadata:
            writer.put(encode_text(key) + value.head)
            writer.put(value.rest)
        writer.put(translation.tensor_list())
        writer.put(bytes(translation.padding(writer.written)))
        for recipe in translation.tensors:
            start = writer.written
            for piece in recipe.content.pieces(writer.source):
                writer.put(piece)
            assert writer.written - start == recipe.size_bytes, recipe.name
            writer.put(bytes(translation.padding(recipe.size_bytes)))
        assert writer.written == translation.size_bytes


class _Writer:
    def __init__(self, source: Source, target: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self.source = source
        self.written = 0
        self._target = target
        self._on_bytes = on_bytes
        self._in_kernel = hasattr(os, "copy_file_range") and _has_descriptor(target)

    def put(self, piece: Span | bytes) -> None:
        if isinstance(piece, Span):
            self._copy(piece)
        else:
            self._write(piece)

    def _write(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:  # a raw file may take less than it was given
            left = left[self._target.write(left) :]
        self._count(len(piece))

    def _copy(self, span: Span) -> None:
        offset, end = span.offset, span.offset + span.size_bytes
        if self._in_kernel and span.size_bytes >= SPAN_BYTES:
            self._target.flush()
            while offset < end and (copied := self._copy_in_kernel(offset, end)):
                offset += copied
                self._count(copied)
        while offset < end:
            piece = self.source.read(Span(offset, min(PIECE_BYTES, end - offset)))
            self._write(piece)
            offset += len(piece)

    def _copy_in_kernel(self, offset: int, end: int) -> int:
        """Bytes copied; 0 when it cannot be done that way (reading then tells a file that ended)."""
        try:
            count = min(_KERNEL_PIECE_BYTES, end - offset)
            return os.copy_file_range(self.source.fd, self._target.fileno(), count, offset_src=offset)
        except OSError as error:
            if error.errno not in _NOT_IN_KERNEL:
                raise
            self._in_kernel = False
            return 0

    def _count(self, size_bytes: int) -> None:
        if size_bytes:
            self.written += size_bytes
            self._on_bytes(self.written)


def _has_descriptor(target: BinaryIO) -> bool:
    try:
        target.fileno()
    except (OSError, AttributeError, io.UnsupportedOperation):
        return False
    return True
