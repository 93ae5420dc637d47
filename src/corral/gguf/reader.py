"""Reads a GGUF file's header: metadata, tensor list, nothing of the weights.

The file is not trusted: every count, length and extent is checked against the file's size and the format's limits
before anything is allocated, and whatever is wrong raises InvalidGGUF. Versions 2 and 3, little-endian: what the
engine loads. Callers: the store (details, capabilities), create (validation), the scheduler (memory estimates).
Source of the limits: ollama fs/gguf/gguf.go; of the checks on keys, alignment and tensors: llama.cpp ggml/src/gguf.cpp.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from corral.errors import InvalidGGUF
from corral.gguf.cursor import Cursor
from corral.gguf.header import GGUFArray, GGUFHeader, GGUFValue, TensorInfo, shortest_float32
from corral.gguf.types import SCALAR_FORMATS, TENSOR_TYPES, ValueType
from corral.regular import open_regular

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 64 * 2**10  # bytes; files have 32, and padding of this size is written after every tensor
MAX_ARRAY_ELEMENTS = 4 * 2**20  # the largest vocabularies have a quarter of a million tokens, and twice as many merges
MAX_DIMENSIONS = 4
MAX_KEYS = 65_536  # real files have under a hundred; each kept key costs memory, so there is a bound of our own
MAX_TENSORS = 65_536  # likewise; the largest published models have a few thousand
MAX_TEXT_BYTES = 16 * 2**20  # all strings outside arrays together

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_SCALARS = {kind: struct.Struct(f"<{letter}") for kind, letter in SCALAR_FORMATS.items()}
_SMALLEST_KEY_BYTES = 8 + 4 + 1
_SMALLEST_TENSOR_BYTES = 8 + 4 + 4 + 8


def is_gguf(path: Path) -> bool:
    """Whether the file begins with GGUF's magic."""
    with open_regular(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def read_header(path: Path) -> GGUFHeader:
    """Read the header at `path`; raises InvalidGGUF for any malformed file, OSError when it cannot be read at all.

    Reads the lengths, not the texts, of vocabularies: tens of milliseconds for 256k tokens.
    """
    with open_regular(path) as file:
        return _HeaderReader(path, Cursor(file.fileno(), os.fstat(file.fileno()).st_size)).read()


class _HeaderReader:
    def __init__(self, path: Path, cursor: Cursor) -> None:
        self._path = path
        self._cursor = cursor
        self._text_bytes = 0

    def read(self) -> GGUFHeader:
        cursor = self._cursor
        version = self._read_preamble()
        tensor_count = self._count("tensors", MAX_TENSORS, _SMALLEST_TENSOR_BYTES)
        key_count = self._count("keys", MAX_KEYS, _SMALLEST_KEY_BYTES)
        metadata: dict[str, GGUFValue] = {}
        spans: dict[str, tuple[int, int]] = {}
        for _ in range(key_count):
            key = self._text("a key")
            if key in metadata:
                raise InvalidGGUF(f"key {key!r} is there twice", cursor.position)
            start = cursor.position
            metadata[key] = self._value(key)
            spans[key] = (start, cursor.position)
        alignment = self._alignment(metadata)
        entries = [self._tensor() for _ in range(tensor_count)]
        data_start = -(-cursor.position // alignment) * alignment
        tensors = tuple(self._place(entry, data_start, alignment) for entry in entries)
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise InvalidGGUF("two tensors have the same name")
        _require_apart(tensors)
        return GGUFHeader(
            self._path, version, alignment, cursor.size, MappingProxyType(metadata), tensors, MappingProxyType(spans)
        )

    def _read_preamble(self) -> int:
        magic = self._cursor.take(len(MAGIC), "the magic")
        if magic != MAGIC:
            raise InvalidGGUF("invalid file magic" if magic != MAGIC[::-1] else "big-endian files are not supported")
        version = self._cursor.number(_U32, "the version")
        if version in {2, 3}:
            return version
        if version and version & 0xFFFF == 0:
            raise InvalidGGUF("big-endian files are not supported")
        raise InvalidGGUF(f"version {version} is not supported, only 2 and 3 are")

    def _count(self, what: str, limit: int, smallest_bytes: int) -> int:
        count = self._cursor.number(_U64, f"the number of {what}")
        if count > limit or count * smallest_bytes > self._cursor.size:
            raise InvalidGGUF(f"{count} {what} cannot be", self._cursor.position)
        return count

    def _text(self, what: str) -> str:
        before = self._cursor.position
        text = self._cursor.string(what)
        self._text_bytes += self._cursor.position - before
        if self._text_bytes > MAX_TEXT_BYTES:
            raise InvalidGGUF(f"more than {MAX_TEXT_BYTES} bytes of text", before)
        return text

    def _value(self, key: str) -> GGUFValue:
        kind = self._value_type(key)
        if kind is ValueType.STRING:
            return self._text(f"the value of {key!r}")
        if kind is ValueType.ARRAY:
            return self._array(key)
        layout = _SCALARS[kind]
        value: bool | int | float = layout.unpack(self._cursor.take(layout.size, f"the value of {key!r}"))[0]
        return shortest_float32(value) if kind is ValueType.FLOAT32 else value

    def _value_type(self, key: str) -> ValueType:
        number = self._cursor.number(_U32, f"the type of {key!r}")
        try:
            return ValueType(number)
        except ValueError:
            raise InvalidGGUF(f"{key!r} has the unknown type {number}", self._cursor.position) from None

    def _array(self, key: str) -> GGUFArray:
        what = f"the array {key!r}"
        kind = self._value_type(key)
        length = self._cursor.number(_U64, what)
        if kind is ValueType.ARRAY:
            raise InvalidGGUF(f"{what} holds arrays", self._cursor.position)
        if length > MAX_ARRAY_ELEMENTS:
            raise InvalidGGUF(f"{what} has {length} elements, the limit is {MAX_ARRAY_ELEMENTS}", self._cursor.position)
        array = GGUFArray(self._path, self._cursor.position, kind, length)
        if kind is ValueType.STRING:
            self._cursor.skip_strings(length, what)
        else:
            self._cursor.skip(length * _SCALARS[kind].size, what)
        return array

    def _alignment(self, metadata: dict[str, GGUFValue]) -> int:
        value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0 or value & (value - 1):
            raise InvalidGGUF("general.alignment is no power of two")
        if value > MAX_ALIGNMENT:
            raise InvalidGGUF(f"general.alignment is {value}, the limit is {MAX_ALIGNMENT}")
        return value

    def _tensor(self) -> TensorInfo:
        """A tensor's entry with its offset still relative to the data section."""
        name = self._text("a tensor's name")
        what = f"tensor {name!r}"
        at = self._cursor.position
        dimensions = self._cursor.number(_U32, what)
        if dimensions > MAX_DIMENSIONS:
            raise InvalidGGUF(f"{what} has {dimensions} dimensions, the limit is {MAX_DIMENSIONS}", at)
        shape = tuple(self._cursor.number(_U64, what) for _ in range(dimensions))
        type_id = self._cursor.number(_U32, what)
        if type_id not in TENSOR_TYPES:
            raise InvalidGGUF(f"{what} has the unknown type {type_id}", at)
        if 0 in shape:
            raise InvalidGGUF(f"{what} has a dimension of 0", at)
        type_name, block_elements, block_bytes = TENSOR_TYPES[type_id]
        elements = 1
        for extent in shape:
            elements *= extent
        if (shape[0] if shape else 1) % block_elements:
            raise InvalidGGUF(f"{what}: rows of {shape[0] if shape else 1} elements do not divide into blocks", at)
        size_bytes = elements // block_elements * block_bytes
        offset = self._cursor.number(_U64, what)
        return TensorInfo(name, type_name, shape, offset, size_bytes, elements)

    def _place(self, tensor: TensorInfo, data_start: int, alignment: int) -> TensorInfo:
        if tensor.offset % alignment:
            raise InvalidGGUF(f"tensor {tensor.name!r} is not aligned to {alignment} bytes", data_start)
        offset = data_start + tensor.offset
        end = offset + tensor.size_bytes
        if end > self._cursor.size:
            raise InvalidGGUF(
                f'tensor "{tensor.name}" offset+size ({end}) exceeds file size ({self._cursor.size})', data_start
            )
        return TensorInfo(tensor.name, tensor.type_name, tensor.shape, offset, tensor.size_bytes, tensor.elements)


def _require_apart(tensors: tuple[TensorInfo, ...]) -> None:
    """Refuse tensors that share bytes: a file that is small would become a model that is large."""
    ordered = sorted(tensors, key=lambda tensor: tensor.offset)
    for before, after in pairwise(ordered):
        if after.offset < before.offset + before.size_bytes:
            raise InvalidGGUF(f"tensors {before.name!r} and {after.name!r} overlap", after.offset)
