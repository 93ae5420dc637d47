"""How the bytes of a new tensor come about from those of the source file, never more than a piece of them in memory.

A content says its size beforehand and yields pieces: a `Span` of the source, which the writer copies (in the kernel
where it can), or bytes. Contents are made by recipes.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from corral.errors import UntranslatableModel
from corral.gguf.decoding import decode
from corral.gguf.encoding import block_of, tensor_bytes
from corral.gguf.header import TensorInfo

PIECE_BYTES = 8 * 2**20
SPAN_BYTES = PIECE_BYTES // 8  # from here on a run is copied by the kernel; below, reading and writing is as fast
MAX_COMPUTED_BYTES = 96 * 2**20  # of float32 that one computed tensor may take in or give out
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the source file."""

    offset: int
    size_bytes: int


class Source:
    """The open source file; reads are exact."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, span: Span) -> bytes:
        """The span's bytes; raises UntranslatableModel when the file has become shorter than its header said."""
        pieces, offset, left = [], span.offset, span.size_bytes
        while left:
            piece = os.pread(self.fd, left, offset)
            if not piece:
                raise UntranslatableModel("the file", f"ends at byte {offset}, its header promises more")
            pieces.append(piece)
            offset += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Content(Protocol):
    """A tensor's new bytes."""

    @property
    def size_bytes(self) -> int:
        """Of all pieces together."""

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """The bytes in order."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A run of the source's bytes, as they are."""

    span: Span

    @property
    def size_bytes(self) -> int:
        """The span's."""
        return self.span.size_bytes

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """The span itself."""
        yield self.span


@dataclass(frozen=True, slots=True)
class Rearranged:
    """Units of equal size, picked group by group: from each run of `group` units those at `order`, in that order.

    A permutation of rows inside heads has a unit of a row and a group of a head; a frame cut out of a convolution has a
    unit of a plane, a group of all frames and an order of one.
    """

    offset: int
    unit_bytes: int
    group: int  # units
    groups: int
    order: tuple[int, ...]  # of numbers below `group`

    @property
    def size_bytes(self) -> int:
        """Of the picked units."""
        return self.unit_bytes * len(self.order) * self.groups

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """Many groups at once where they are small, unit by unit where a group is larger than a piece."""
        if not self.size_bytes:
            return
        group_bytes = self.unit_bytes * self.group
        if group_bytes > PIECE_BYTES:
            for number in range(self.groups):
                for index in self.order:
                    yield Span(self.offset + number * group_bytes + index * self.unit_bytes, self.unit_bytes)
            return
        at_once = PIECE_BYTES // group_bytes
        for first in range(0, self.groups, at_once):
            count = min(at_once, self.groups - first)
            data = source.read(Span(self.offset + first * group_bytes, count * group_bytes))
            units = np.frombuffer(data, np.uint8).reshape(count, self.group, self.unit_bytes)
            yield units[:, list(self.order)].tobytes()


@dataclass(frozen=True, slots=True)
class Alternating:
    """Equally many units of several runs, a unit of each in turn: the gate and the up matrix, expert by expert."""

    offsets: tuple[int, ...]  # of the runs
    unit_bytes: tuple[int, ...]  # in each run
    units: int

    @property
    def size_bytes(self) -> int:
        """Of all runs."""
        return sum(self.unit_bytes) * self.units

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """Many turns at once where units are small, unit by unit where they are worth a copy of their own."""
        if not self.size_bytes:
            return
        at_once = 0 if min(self.unit_bytes) >= SPAN_BYTES else PIECE_BYTES // sum(self.unit_bytes)
        for first in range(0, self.units, max(1, at_once)):
            spans = [
                Span(offset + first * size, min(max(1, at_once), self.units - first) * size)
                for offset, size in zip(self.offsets, self.unit_bytes, strict=True)
            ]
            if at_once:
                runs = [np.frombuffer(source.read(span), np.uint8) for span in spans]
                rows = [run.reshape(-1, size) for run, size in zip(runs, self.unit_bytes, strict=True) if size]
                yield np.concatenate(rows, axis=1).tobytes()
            else:
                yield from spans


@dataclass(frozen=True, slots=True)
class Joined:
    """Contents one after the other."""

    parts: tuple[Content, ...]

    @property
    def size_bytes(self) -> int:
        """Of all parts."""
        return sum(part.size_bytes for part in self.parts)

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """The parts' pieces."""
        for part in self.parts:
            yield from part.pieces(source)


@dataclass(frozen=True, slots=True)
class Widened:
    """A content of any tensor type as float32, `shift` added to each value."""

    part: Content
    type_name: str
    tensor: str  # its name, for errors
    shift: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Four bytes an element."""
        elements, size = block_of(self.type_name)
        return self.part.size_bytes // size * elements * 4

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """Float32, little-endian; raises UntranslatableModel for types that cannot be decoded."""
        elements, size = block_of(self.type_name)
        for data in _in_blocks(self.part, source, size, max(1, PIECE_BYTES // (4 * elements))):
            yield self._widen(data, elements * (len(data) // size))

    def _widen(self, data: bytes, width: int) -> bytes:
        try:
            values = decode(data, self.type_name, width)
        except ValueError as error:
            raise UntranslatableModel(f"tensor {self.tensor!r}", str(error)) from error
        return np.asarray(values + np.float32(self.shift) if self.shift else values, "<f4").tobytes()


@dataclass(frozen=True, slots=True)
class Repacked:
    """Blocks of MXFP4 whose 32 nibbles lie in order, two a byte, as ggml has them: the second half above the first."""

    part: Content

    @property
    def size_bytes(self) -> int:
        """The part's."""
        return self.part.size_bytes

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """Blocks of a scale and 16 bytes."""
        size = block_of("MXFP4")[1]
        for data in _in_blocks(self.part, source, size, PIECE_BYTES // size):
            blocks = np.frombuffer(data, np.uint8).reshape(-1, size)
            values = np.stack([blocks[:, 1:] & 15, blocks[:, 1:] >> 4], axis=2).reshape(len(blocks), -1)  # in order
            first, second = np.split(values, 2, axis=1)
            yield np.concatenate([blocks[:, :1], first | second << 4], axis=1).tobytes()


@dataclass(frozen=True, slots=True)
class Constant:
    """Bytes that stand in no file."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        """Of the bytes."""
        return len(self.data)

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """The bytes."""
        yield self.data


@dataclass(frozen=True, slots=True)
class Computed:
    """Whole small tensors in, as float32 in numpy's order of dimensions; a small one of `shape` out."""

    inputs: tuple[TensorInfo, ...]
    shape: tuple[int, ...]  # in GGUF's order, fastest first
    compute: Callable[[Sequence[Floats]], Floats]

    def __post_init__(self) -> None:
        for name, elements in [(info.name, info.elements) for info in self.inputs] + [("", math.prod(self.shape))]:
            if elements * 4 > MAX_COMPUTED_BYTES:
                raise UntranslatableModel(
                    f"tensor {name or self.inputs[0].name!r}", f"{elements} elements are too many"
                )

    @property
    def size_bytes(self) -> int:
        """Four bytes an element."""
        return math.prod(self.shape) * 4

    def pieces(self, source: Source) -> Iterator[Span | bytes]:
        """All of it at once."""
        result = self.compute([_whole(info, source) for info in self.inputs])
        assert result.size == math.prod(self.shape), (self.inputs, self.shape)
        yield np.ascontiguousarray(result, "<f4").tobytes()


def _whole(info: TensorInfo, source: Source) -> Floats:
    content = Widened(Copied(Span(info.offset, info.size_bytes)), info.type_name, info.name)
    data = b"".join(piece for piece in content.pieces(source) if isinstance(piece, bytes))
    return np.frombuffer(data, "<f4").reshape(info.shape[::-1])


def _in_blocks(part: Content, source: Source, block_bytes: int, blocks: int) -> Iterator[bytes]:
    """A content's bytes in runs of at most `blocks` whole blocks."""
    step = block_bytes * blocks
    for piece in part.pieces(source):
        if isinstance(piece, Span):
            for start in range(0, piece.size_bytes, step):
                yield source.read(Span(piece.offset + start, min(step, piece.size_bytes - start)))
        else:
            for start in range(0, len(piece), step):
                yield piece[start : start + step]


def row_bytes(info: TensorInfo) -> int:
    """Bytes of one row (the fastest dimension) of a tensor."""
    return tensor_bytes(info.shape[:1], info.type_name)
