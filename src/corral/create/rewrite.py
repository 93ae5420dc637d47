"""Writes a GGUF from the parts of others: metadata copied byte for byte, tensors streamed one piece at a time.

Merging split files, adding a key to a projector and quantizing are all this one operation; memory holds one piece of
one tensor, whatever the model's size. Callers: `finish.py`, `quantize.py`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from corral.gguf.cursor import Cursor
from corral.gguf.header import GGUFHeader, TensorInfo
from corral.gguf.reader import MAGIC
from corral.gguf.types import SCALAR_FORMATS, TENSOR_TYPES, ValueType

PIECE_BYTES = 8 * 2**20
_VERSION = 3
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_TYPE_IDS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
_TYPE_SIZES = {name: (elements, size) for name, elements, size in TENSOR_TYPES.values()}


class Sink(Protocol):
    """Where the bytes go: a BlobWriter, a file."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """A tensor in one of the files that a model is made from."""

    path: Path
    info: TensorInfo


# Yields the bytes of a tensor in its new type, piece by piece; all pieces together have the size that the type implies.
TensorBytes = Callable[[SourceTensor, str], Iterator[bytes]]
MetadataValue = int | str  # written as UINT32 and STRING


def tensors_of(parts: Sequence[GGUFHeader]) -> tuple[SourceTensor, ...]:
    """All tensors of a model whose weights are in one file or in several."""
    return tuple(SourceTensor(part.path, info) for part in parts for info in part.tensors)


def copy_tensor(tensor: SourceTensor, _type_name: str) -> Iterator[bytes]:
    """A tensor's bytes as they are in the file."""
    with tensor.path.open("rb") as file:
        file.seek(tensor.info.offset)
        yield from _pieces(file, tensor.info.size_bytes)


def rewrite(
    sink: Sink,
    base: GGUFHeader,
    tensors: Sequence[tuple[SourceTensor, str]],
    *,
    put: Mapping[str, MetadataValue] | None = None,
    drop: Sequence[str] = (),
    read: TensorBytes = copy_tensor,
) -> Iterator[int]:
    """Write a file with `base`'s metadata and the given tensors in their new types; yields source bytes done so far.

    `put` sets keys, `drop` leaves keys out. Raises OSError (NotEnoughSpace from a BlobWriter), and what `read` raises.
    """
    put = dict(put or {})
    kept = [pair for pair in _metadata(base.path) if pair.key not in put and pair.key not in drop]
    sink.write(MAGIC + _U32.pack(_VERSION) + _U64.pack(len(tensors)) + _U64.pack(len(kept) + len(put)))
    written = 24 + _copy_metadata(sink, base.path, kept)
    table = b"".join(_encode_pair(key, value) for key, value in put.items())
    table += _tensor_table(tensors, base.alignment)
    written += len(table)
    sink.write(table + bytes(-written % base.alignment))
    done = 0
    for tensor, type_name in tensors:
        size = 0
        for piece in read(tensor, type_name):
            sink.write(piece)
            size += len(piece)
            yield done + min(tensor.info.size_bytes, size)
        assert size == tensor_bytes(tensor.info.shape, type_name), (tensor.info.name, type_name)
        sink.write(bytes(-size % base.alignment))
        done += tensor.info.size_bytes
        yield done


def tensor_bytes(shape: Sequence[int], type_name: str) -> int:
    """Bytes of a tensor of this shape (fastest dimension first) in this type."""
    elements, size = _TYPE_SIZES[type_name]
    count = 1
    for extent in shape:
        count *= extent
    return count // elements * size


@dataclass(frozen=True, slots=True)
class _Pair:
    """A metadata entry as a range of its file's bytes, key and value together."""

    key: str
    start: int
    end: int


def _metadata(path: Path) -> list[_Pair]:
    pairs = []
    with path.open("rb", buffering=0) as file:
        cursor = Cursor(file.fileno(), os.fstat(file.fileno()).st_size, 16)
        for _ in range(cursor.number(_U64, "the number of keys")):
            start = cursor.position
            key = cursor.string("a key")
            _skip_value(cursor, ValueType(cursor.number(_U32, key)), key)
            pairs.append(_Pair(key, start, cursor.position))
    return pairs


def _skip_value(cursor: Cursor, kind: ValueType, key: str) -> None:
    if kind is ValueType.STRING:
        cursor.skip_strings(1, key)
    elif kind is ValueType.ARRAY:
        element = ValueType(cursor.number(_U32, key))
        length = cursor.number(_U64, key)
        if element is ValueType.STRING:
            cursor.skip_strings(length, key)
        else:
            cursor.skip(length * struct.calcsize(f"<{SCALAR_FORMATS[element]}"), key)
    else:
        cursor.skip(struct.calcsize(f"<{SCALAR_FORMATS[kind]}"), key)


def _copy_metadata(sink: Sink, path: Path, pairs: Sequence[_Pair]) -> int:
    written = 0
    with path.open("rb") as file:
        for pair in pairs:
            file.seek(pair.start)
            for piece in _pieces(file, pair.end - pair.start):
                sink.write(piece)
                written += len(piece)
    return written


def _pieces(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    while left:
        piece = file.read(min(left, PIECE_BYTES))
        if not piece:
            raise OSError(f"{left} bytes are missing at the end of a file that was complete before")
        left -= len(piece)
        yield piece


def _encode_text(text: str) -> bytes:
    data = text.encode()
    return _U64.pack(len(data)) + data


def _encode_pair(key: str, value: MetadataValue) -> bytes:
    if isinstance(value, str):
        return _encode_text(key) + _U32.pack(ValueType.STRING) + _encode_text(value)
    return _encode_text(key) + _U32.pack(ValueType.UINT32) + _U32.pack(value)


def _tensor_table(tensors: Sequence[tuple[SourceTensor, str]], alignment: int) -> bytes:
    entries, offset = [], 0
    for tensor, type_name in tensors:
        shape = tensor.info.shape
        entries.append(
            _encode_text(tensor.info.name)
            + _U32.pack(len(shape))
            + struct.pack(f"<{len(shape)}Q", *shape)
            + _U32.pack(_TYPE_IDS[type_name])
            + _U64.pack(offset)
        )
        size = tensor_bytes(shape, type_name)
        offset += size + -size % alignment
    return b"".join(entries)
