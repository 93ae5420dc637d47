"""`Weight`: a tensor that is read when it is written, in pieces where it can be. Families make outputs of these.

Every operation is lazy and knows its shape beforehand, since a GGUF lists all shapes before the first value. Moves
(cut, swap, stack) work on the values as stored, bfloat16 as its 16 bits; `computed` works on float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from corral.errors import InvalidRequest

Array = npt.NDArray[Any]
Move = Callable[[Array], Array]

_PIECE_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of a checkpoint, or one made of them; `shape` is rows first, as in the checkpoint."""

    name: str  # the checkpoint's, for error texts
    shape: tuple[int, ...]
    dtype: str  # what `rows` gives: F64, F32, F16, BF16 (as 16 bits), I8, …, or MXFP4 (as blocks)
    rows: Callable[[int, int], Array]  # the values of a range of the first dimension
    in_pieces: bool = True  # whether a range costs no more than its part of the whole
    is_bfloat: bool = False  # whether its 16-bit form is bfloat16, whatever `dtype` says now

    def read(self) -> Array:
        """All values, as stored."""
        return self.rows(0, self.shape[0])

    def floats(self) -> Array:
        """All values as float32."""
        return as_float32(self.read(), self.dtype)

    def pieces(self) -> Iterator[Array]:
        """The values in order, a bounded number of bytes at a time where that is possible."""
        count = self.shape[0]
        if not self.in_pieces:
            yield self.read()
            return
        row_bytes = 4 * math.prod(self.shape[1:])
        step = max(1, _PIECE_BYTES // max(1, row_bytes))
        for start in range(0, count, step):
            yield self.rows(start, min(count, start + step))

    def cut(self, start: int, stop: int, axis: int = 0) -> Weight:
        """The range `start` to `stop` along an axis."""
        axis %= len(self.shape)
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        if axis == 0:
            return replace(self, shape=shape, rows=lambda a, b: self.rows(start + a, start + b))
        index = (slice(None),) * axis + (slice(start, stop),)
        return replace(self, shape=shape, rows=lambda a, b: self.rows(a, b)[index])

    def every(self, step: int, start: int, axis: int) -> Weight:
        """Each `step`-th entry along an axis, from `start`."""
        axis %= len(self.shape)
        shape = (*self.shape[:axis], len(range(start, self.shape[axis], step)), *self.shape[axis + 1 :])
        index = (slice(None),) * axis + (slice(start, None, step),)
        if axis == 0:
            return self.moved(shape, lambda values: values[index])
        return replace(self, shape=shape, rows=lambda a, b: self.rows(a, b)[index])

    def transposed(self) -> Weight:
        """With the last two axes swapped."""
        shape = (*self.shape[:-2], self.shape[-1], self.shape[-2])
        if len(shape) == 2:
            return self.moved(shape, lambda values: values.T)
        return replace(self, shape=shape, rows=lambda a, b: self.rows(a, b).swapaxes(-1, -2))

    def shaped(self, *shape: int) -> Weight:
        """The same values under another shape. Raises InvalidRequest when the counts differ."""
        if math.prod(shape) != math.prod(self.shape):
            raise self.wrong_shape(f"a shape that gives {shape}")
        if shape[0] == self.shape[0]:
            return replace(self, shape=shape, rows=lambda a, b: self.rows(a, b).reshape(b - a, *shape[1:]))
        return self.moved(shape, lambda values: values.reshape(shape))

    def moved(self, shape: tuple[int, ...], move: Move) -> Weight:
        """The values after a move that needs all of them at once."""
        return replace(self, shape=shape, rows=lambda a, b: move(self.read())[a:b], in_pieces=False)

    def computed(self, change: Move) -> Weight:
        """float32 values after an arithmetic that keeps the shape and needs no other row."""
        return replace(self, dtype="F32", rows=lambda a, b: change(as_float32(self.rows(a, b), self.dtype)))

    def need_dims(self, *counts: int) -> Weight:
        """Itself; raises InvalidRequest unless it has one of these numbers of dimensions."""
        if len(self.shape) not in counts:
            raise self.wrong_shape(" or ".join(f"{count} dimensions" for count in counts))
        return self

    def need_multiple(self, unit: int, axis: int = 0) -> Weight:
        """Itself; raises InvalidRequest unless an axis is a multiple of `unit`."""
        if unit <= 0 or not self.shape or self.shape[axis] % unit:
            raise self.wrong_shape(f"a multiple of {unit}")
        return self

    def need_length(self, length: int, axis: int = 0) -> Weight:
        """Itself; raises InvalidRequest unless an axis has this length."""
        if self.shape[axis] != length:
            raise self.wrong_shape(f"{length} along axis {axis}")
        return self

    def wrong_shape(self, expected: str) -> InvalidRequest:
        """The error for a shape that config.json does not account for."""
        shape = list(self.shape)
        return InvalidRequest(f"tensor {self.name!r} has shape {shape}; config.json asks for {expected}", field="files")


def stacked(members: Sequence[Weight]) -> Weight:
    """Weights of one shape as one, along a new first axis; only the members being written are read."""
    first = members[0]
    for member in members:
        if member.shape != first.shape or member.dtype != first.dtype:
            raise member.wrong_shape(f"the shape and type of {first.name!r}, {list(first.shape)}")
    rows: Callable[[int, int], Array] = lambda a, b: np.stack([member.read() for member in members[a:b]])  # noqa: E731
    return replace(first, shape=(len(members), *first.shape), rows=rows, in_pieces=True)


def joined(members: Sequence[Weight]) -> Weight:
    """Weights one after the other along the first axis."""
    first = members[0]
    for member in members:
        if member.shape[1:] != first.shape[1:] or member.dtype != first.dtype:
            raise member.wrong_shape(f"rows as those of {first.name!r}, {list(first.shape)}")
    shape = (sum(member.shape[0] for member in members), *first.shape[1:])
    whole = replace(first, shape=shape)
    return whole.moved(shape, lambda _values: np.concatenate([member.read() for member in members]))


def padded(weight: Weight, rows: int) -> Weight:
    """With rows of zeros behind, up to a number of rows; itself when it has as many."""
    have = weight.shape[0]
    if have >= rows:
        return weight

    def read(start: int, stop: int) -> Array:
        values = weight.rows(min(start, have), min(stop, have))
        zeros = np.zeros((stop - start - len(values), *weight.shape[1:]), values.dtype)
        return np.concatenate([values, zeros])

    return replace(weight, shape=(rows, *weight.shape[1:]), rows=read)


def constant(name: str, values: Array) -> Weight:
    """A weight of given float32 values."""
    return Weight(name, values.shape, "F32", lambda a, b: values[a:b])


def as_float32(values: Array, dtype: str) -> Array:
    """Stored values as float32."""
    return widen_bfloat16(values) if dtype == "BF16" else np.asarray(values, np.float32)


def widen_bfloat16(bits: Array) -> Array:
    """float32 values of bfloat16 bit patterns."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def round_bfloat16(values: Array) -> Array:
    """bfloat16 bit patterns nearest to float32 values, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
