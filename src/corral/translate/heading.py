"""`heading`, `engine_header`: the header that a translated file will have, told before it is written.

The scheduler plans memory and the window with it, the store tells capabilities by it. Arrays that stand in the source
are read from there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from corral.gguf.header import GGUFArray, GGUFHeader, GGUFValue, TensorInfo, shortest_float32
from corral.gguf.types import SCALAR_FORMATS, ValueType
from corral.translate.layout import recognize
from corral.translate.translation import MetadataValue, Translation

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_VERSION = 3


@dataclass(frozen=True, slots=True)
class _OwnArray(GGUFArray):
    """An array that stands in no file yet."""

    values: tuple[Any, ...] = ()

    def iterate(self) -> Iterator[Any]:
        """The elements."""
        return iter(self.values)


def engine_header(header: GGUFHeader) -> GGUFHeader:
    """The header of what the engine opens for this file: the file's own, or of the text model translated from it.

    Raises UntranslatableModel, InvalidGGUF, OSError.
    """
    layout = recognize(header)
    plan = None if layout is None else layout.text_plan()
    return header if plan is None else heading(plan, header)


def heading(translation: Translation, source: GGUFHeader) -> GGUFHeader:
    """The header of what `write` makes of the source; its `path` is the source's, which its arrays are read from."""
    by_place = {span[0]: source.metadata[key] for key, span in source.spans.items()}
    metadata = {
        key: by_place[value.rest.offset] if not value.head else _decode(value, source)
        for key, value in translation.metadata
    }
    tensors, offset = [], translation.data_offset
    for one in translation.tensors:
        tensors.append(TensorInfo(one.name, one.type_name, one.shape, offset, one.size_bytes, math.prod(one.shape)))
        offset += one.size_bytes + translation.padding(one.size_bytes)
    return GGUFHeader(
        source.path, _VERSION, translation.alignment, translation.size_bytes,
        MappingProxyType(metadata), tuple(tensors), MappingProxyType({}),
    )  # fmt: skip


def _decode(value: MetadataValue, source: GGUFHeader) -> GGUFValue:
    """A value of the translation's own, from its bytes."""
    data = value.head
    kind = ValueType(_U32.unpack_from(data)[0])
    if kind is not ValueType.ARRAY:
        scalar: GGUFValue = _elements(kind, data, _U32.size, 1)[0]
        return scalar
    kind = ValueType(_U32.unpack_from(data, _U32.size)[0])
    length = _U64.unpack_from(data, 2 * _U32.size)[0]
    if value.rest.size_bytes:
        return GGUFArray(source.path, value.rest.offset, kind, length)
    values = _elements(kind, data, 2 * _U32.size + _U64.size, length)
    return _OwnArray(source.path, 0, kind, length, tuple(values))


def _elements(kind: ValueType, data: bytes, offset: int, count: int) -> list[Any]:
    if kind is ValueType.STRING:
        texts = []
        for _ in range(count):
            size = _U64.unpack_from(data, offset)[0]
            offset += _U64.size
            texts.append(data[offset : offset + size].decode("utf-8", "replace"))
            offset += size
        return texts
    values = struct.unpack_from(f"<{count}{SCALAR_FORMATS[kind]}", data, offset)
    return [shortest_float32(one) for one in values] if kind is ValueType.FLOAT32 else list(values)
