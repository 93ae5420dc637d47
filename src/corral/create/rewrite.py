"""Writes a GGUF from the parts of others: metadata copied byte for byte, tensors streamed one piece at a time.

Merging split files, adding a key to a projector and quantizing are all this one operation; memory holds one piece of
one tensor, whatever the model's size. Callers: `finish.py`, `quantize.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from corral.gguf.encoding import encode_preamble, encode_scalar, encode_tensors, encode_text, tensor_bytes
from corral.gguf.header import GGUFHeader, TensorInfo
from corral.gguf.types import ValueType

PIECE_BYTES = 8 * 2**20


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


def rewritten_bytes(parts: Sequence[GGUFHeader], tensors: Sequence[tuple[SourceTensor, str]]) -> int:
    """How large the file that `rewrite` makes of these parts will be at most, but for keys that are put in."""
    sizes = [tensor_bytes(tensor.info.shape, kind) for tensor, kind in tensors]
    padding = sum(-size % parts[0].alignment for size in sizes)
    return sum(part.file_size - part.tensor_bytes for part in parts) + sum(sizes) + padding


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
    kept = [key for key in base.spans if key not in put and key not in drop]
    head = encode_preamble(len(tensors), len(kept) + len(put))
    sink.write(head)
    written = len(head) + _copy_metadata(sink, base, kept)
    table = b"".join(_encode_pair(key, value) for key, value in put.items())
    table += encode_tensors([(tensor.info.name, tensor.info.shape, kind) for tensor, kind in tensors], base.alignment)
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


def _copy_metadata(sink: Sink, base: GGUFHeader, keys: Sequence[str]) -> int:
    written = 0
    with base.path.open("rb") as file:
        for key in keys:
            start, end = base.spans[key]
            name = encode_text(key)
            sink.write(name)
            file.seek(start)
            for piece in _pieces(file, end - start):
                sink.write(piece)
            written += len(name) + end - start
    return written


def _pieces(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    while left:
        piece = file.read(min(left, PIECE_BYTES))
        if not piece:
            raise OSError(f"{left} bytes are missing at the end of a file that was complete before")
        left -= len(piece)
        yield piece


def _encode_pair(key: str, value: MetadataValue) -> bytes:
    kind = ValueType.STRING if isinstance(value, str) else ValueType.UINT32
    return encode_text(key) + encode_scalar(kind, value)
