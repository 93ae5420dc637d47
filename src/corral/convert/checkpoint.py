"""A checkpoint as files: lenient JSON, and safetensors read lazily through memory maps.

The safetensors header is read here because the library's NumPy side knows no bfloat16 (ADR 0009). Every offset is
checked against the file before a byte is touched.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from corral.errors import InvalidRequest

MAX_HEADER_BYTES = 100 * 2**20  # the format's own limit
_STORED: Mapping[str, npt.DTypeLike] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
}
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CheckpointTensor:
    """One tensor in a safetensors file; `shape` is the checkpoint's (rows first)."""

    name: str
    dtype: str  # safetensors' word: F32, F16, BF16, …
    shape: tuple[int, ...]
    path: Path
    offset: int
    size_bytes: int

    def read(self) -> Array:
        """The values, mapped from the file; bfloat16 as its raw 16 bits. Raises InvalidRequest for other types."""
        kind = _STORED.get(self.dtype)
        if kind is None:
            raise InvalidRequest(f"tensor {self.name!r} has type {self.dtype}, which cannot be imported", field="files")
        if 0 in self.shape:
            return np.zeros(self.shape, kind)
        return np.memmap(self.path, dtype=kind, mode="r", offset=self.offset, shape=self.shape)

    def read_float32(self) -> Array:
        """The values as float32."""
        values = self.read()
        return widen_bfloat16(values) if self.dtype == "BF16" else np.asarray(values, np.float32)


def widen_bfloat16(bits: Array) -> Array:
    """float32 values of bfloat16 bit patterns."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Checkpoint:
    """A model directory, as a mapping from relative slash paths to local files."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self.config: dict[str, Any] = self.json("config.json")

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the checkpoint, {} when the file is absent. NaN and Infinity are tolerated."""
        value = self.json_value(name)
        if not isinstance(value, dict):
            raise InvalidRequest(f"{name}: expected a JSON object", field="files")
        return value

    def json_value(self, name: str) -> Any:
        """Any JSON file's value, {} when the file is absent."""
        path = self.files.get(name)
        if path is None:
            return {}
        try:
            return json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{name}: not valid JSON: {error}", field="files") from error

    def tensors(self) -> dict[str, CheckpointTensor]:
        """All tensors of the top-level safetensors files, by name; raises InvalidRequest for a damaged file."""
        found: dict[str, CheckpointTensor] = {}
        for name in sorted(self.files):
            if name.endswith(".safetensors") and "/" not in name:
                found.update((tensor.name, tensor) for tensor in read_safetensors(self.files[name], name))
        if not found:
            raise InvalidRequest("unknown tensor format", field="files")
        return found


def read_safetensors(path: Path, shown: str = "") -> Iterator[CheckpointTensor]:
    """The table of one safetensors file. Raises InvalidRequest naming what is wrong with it."""
    shown = shown or path.name
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise InvalidRequest(f"{shown}: not a safetensors file", field="files")
        try:
            table = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{shown}: damaged safetensors header: {error}", field="files") from error
    if not isinstance(table, dict):
        raise InvalidRequest(f"{shown}: damaged safetensors header", field="files")
    for name, entry in table.items():
        if name != "__metadata__":
            yield _tensor(path, shown, name, entry, 8 + length, size)


def _tensor(path: Path, shown: str, name: str, entry: Any, base: int, size: int) -> CheckpointTensor:
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
        begin, end = (int(n) for n in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{shown}: damaged entry of tensor {name!r}", field="files") from error
    if not (0 <= begin <= end and base + end <= size) or any(n < 0 for n in shape):
        raise InvalidRequest(f"{shown}: tensor {name!r} lies outside the file", field="files")
    kind = _STORED.get(dtype)
    if kind is not None and math.prod(shape) * np.dtype(kind).itemsize != end - begin:
        raise InvalidRequest(
            f"{shown}: tensor {name!r} has {end - begin} bytes, its shape says otherwise", field="files"
        )
    return CheckpointTensor(name, dtype, shape, path, base + begin, end - begin)


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's part of a config: multimodal ones keep it under `text_config`."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else dict(config)


def first_of(config: Mapping[str, Any], *names: str, default: Any = None) -> Any:
    """The first of several spellings that is present and not null. Raises InvalidRequest without a default."""
    for name in names:
        if config.get(name) is not None:
            return config[name]
    if default is None:
        raise InvalidRequest(f"config.json: {names[0]} is missing", field="files")
    return cast("Any", default)
