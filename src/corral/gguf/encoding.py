"""A GGUF's parts as bytes: preamble, keys with values, the list of tensors. What reader.py reads, the other way round.

Called by whoever writes a file from the parts of another: `translate`, `create`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from corral.gguf.reader import MAGIC
from corral.gguf.types import SCALAR_FORMATS, TENSOR_TYPES, ValueType

Scalar = bool | int | float | str

_VERSION = 3
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_TYPE_IDS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
_TYPE_SIZES = {name: (elements, size) for name, elements, size in TENSOR_TYPES.values()}


def encode_preamble(tensors: int, keys: int) -> bytes:
    """Magic, version and the two counts."""
    return MAGIC + _U32.pack(_VERSION) + _U64.pack(tensors) + _U64.pack(keys)


def encode_text(text: str) -> bytes:
    """A length-prefixed string."""
    data = text.encode()
    return _U64.pack(len(data)) + data


def encode_scalar(kind: ValueType, value: Scalar) -> bytes:
    """A value with its type before it; raises struct.error when the type cannot hold it."""
    return _U32.pack(kind) + _element(kind, value)


def encode_array_head(kind: ValueType, length: int) -> bytes:
    """What stands before the elements of an array."""
    return _U32.pack(ValueType.ARRAY) + _U32.pack(kind) + _U64.pack(length)


def encode_array(kind: ValueType, values: Sequence[Scalar]) -> bytes:
    """A whole array with its type before it."""
    head = encode_array_head(kind, len(values))
    if kind is ValueType.STRING:
        return head + b"".join(encode_text(str(value)) for value in values)
    return head + struct.pack(f"<{len(values)}{SCALAR_FORMATS[kind]}", *values)


def encode_tensors(tensors: Iterable[tuple[str, Sequence[int], str]], alignment: int) -> bytes:
    """The list of tensors (name, shape in GGUF order, type), their data laid out in this order."""
    entries, offset = [], 0
    for name, shape, type_name in tensors:
        extents = struct.pack(f"<{len(shape)}Q", *shape)
        kind = _U32.pack(_TYPE_IDS[type_name])
        entries.append(encode_text(name) + _U32.pack(len(shape)) + extents + kind + _U64.pack(offset))
        size = tensor_bytes(shape, type_name)
        offset += size + -size % alignment
    return b"".join(entries)


def tensor_bytes(shape: Sequence[int], type_name: str) -> int:
    """Bytes of a tensor of this shape (fastest dimension first) in this type."""
    elements, size = _TYPE_SIZES[type_name]
    count = 1
    for extent in shape:
        count *= extent
    return count // elements * size


def block_of(type_name: str) -> tuple[int, int]:
    """Elements and bytes of the smallest unit in which a tensor type can be read."""
    return _TYPE_SIZES[type_name]


def _element(kind: ValueType, value: Scalar) -> bytes:
    return encode_text(str(value)) if kind is ValueType.STRING else struct.pack(f"<{SCALAR_FORMATS[kind]}", value)
