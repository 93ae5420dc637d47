"""A checkpoint as files: lenient JSON, and safetensors read lazily through memory maps.

The safetensors header is read here because the library's NumPy side knows no bfloat16 (ADR 0009). Every offset is
checked against the file before a byte is touched, and every shard that the index or a shard's name speaks of must be
there.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from corral.convert.weights import Array, Weight, as_float32
from corral.errors import InvalidRequest

MAX_HEADER_BYTES = 100 * 2**20  # the format's own limit
_STORED: Mapping[str, npt.DTypeLike] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I8": "i1",
    "U8": "u1",
    "F8_E4M3": "u1",  # the codes; quantized.py knows their values
    "F8_E5M2": "u1",
}
_MAX_DIMENSIONS = 5  # a convolution over pictures in time
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors\Z")


@dataclass(frozen=True, slots=True)
class CheckpointTensor:
    """One tensor in a safetensors file; `shape` is the checkpoint's (rows first)."""

    name: str
    dtype: str  # safetensors' word: F32, F16, BF16, …
    shape: tuple[int, ...]
    path: Path
    offset: int
    size_bytes: int

    def rows(self, start: int, stop: int) -> Array:
        """A range of the first dimension, mapped from the file. Raises InvalidRequest for types without a use here."""
        kind = self._kind()
        shape = self.shape or (1,)
        rest = shape[1:]
        count = stop - start
        if count == 0 or 0 in rest:
            return np.zeros((count, *rest), kind)
        row_bytes = math.prod(rest) * np.dtype(kind).itemsize
        offset = self.offset + start * row_bytes
        return np.memmap(self.path, dtype=kind, mode="r", offset=offset, shape=(count, *rest))

    def read(self) -> Array:
        """All values, mapped from the file; bfloat16 as its raw 16 bits. Raises InvalidRequest as `rows` does."""
        return self.rows(0, (self.shape or (1,))[0]).reshape(self.shape)

    def read_float32(self) -> Array:
        """The values as float32."""
        return as_float32(self.read(), self.dtype)

    def _kind(self) -> npt.DTypeLike:
        if self.dtype not in _STORED:
            raise InvalidRequest(f"tensor {self.name!r} has type {self.dtype}, which cannot be imported", field="files")
        return _STORED[self.dtype]

    def weight(self) -> Weight:
        """Itself as what families work on; a single number becomes a list of one. Raises InvalidRequest as `rows`."""
        self._kind()
        return Weight(self.name, self.shape or (1,), self.dtype, self.rows, is_bfloat=self.dtype == "BF16")


class Checkpoint:
    """A model directory, as a mapping from relative slash paths to local files."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self.config: dict[str, Any] = self.json("config.json")
        self._tensors: dict[str, CheckpointTensor] | None = None

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

    def text(self, name: str) -> str:
        """A text file, "" when it is absent. Raises InvalidRequest when it is no UTF-8."""
        path = self.files.get(name)
        try:
            return path.read_text(encoding="utf-8-sig") if path else ""
        except ValueError as error:
            raise InvalidRequest(f"{name}: not UTF-8: {error}", field="files") from error

    def added_token(self, text: str) -> int | None:
        """The number of an added token, by its text."""
        for entry in self.json("tokenizer.json").get("added_tokens") or ():
            if isinstance(entry, dict) and entry.get("content") == text and isinstance(entry.get("id"), int):
                return int(entry["id"])
        for number, entry in (self.json("tokenizer_config.json").get("added_tokens_decoder") or {}).items():
            if isinstance(entry, dict) and entry.get("content") == text and number.isdecimal():
                return int(number)
        return None

    def tensors(self) -> dict[str, CheckpointTensor]:
        """All tensors of the top-level safetensors files, by name; read once. Raises InvalidRequest for damage."""
        if self._tensors is None:
            self._tensors = self._read_tensors()
        return self._tensors

    def _read_tensors(self) -> dict[str, CheckpointTensor]:
        names = [name for name in sorted(self.files) if name.endswith(".safetensors") and "/" not in name]
        if any(name.startswith("model") for name in names):  # the maker's own format may lie beside the hub's
            names = [name for name in names if not name.startswith("consolidated")]
        listed = self._listed()
        _check_shards(names, listed)
        if listed:
            names = sorted(set(listed.values()))
        found: dict[str, CheckpointTensor] = {}
        for name in names:
            found.update((tensor.name, tensor) for tensor in read_safetensors(self.files[name], name))
        for tensor, shard in listed.items():
            if tensor not in found:
                raise InvalidRequest(f"{shard}: tensor {tensor!r} is missing, which {_INDEX} lists", field="files")
        if not found:
            raise InvalidRequest("unknown tensor format", field="files")
        return found

    def module_tensors(self, folder: str) -> dict[str, CheckpointTensor]:
        """The tensors of a module in a folder of its own, as sentence-transformers keeps them."""
        name = f"{folder}/model.safetensors"
        if name not in self.files:
            raise InvalidRequest(f"{name} is missing", field="files")
        return {tensor.name: tensor for tensor in read_safetensors(self.files[name], name)}

    def _listed(self) -> dict[str, str]:
        """The index: tensor to shard; {} for a checkpoint in one file."""
        index = self.json(_INDEX).get("weight_map", {})
        if not isinstance(index, dict) or not all(isinstance(shard, str) for shard in index.values()):
            raise InvalidRequest(f"{_INDEX}: weight_map is not a map of tensors to files", field="files")
        return index


def _check_shards(names: list[str], listed: Mapping[str, str]) -> None:
    for shard in sorted(set(listed.values())):
        if shard not in names:
            raise InvalidRequest(f"{shard} is missing, which {_INDEX} lists", field="files")
    for match in filter(None, map(_SHARD.match, names)):
        for number in range(1, int(match[3]) + 1):
            sibling = f"{match[1]}-{number:05}-of-{match[3]}.safetensors"
            if sibling not in names:
                raise InvalidRequest(f"{sibling} is missing: {match[0]} is one of {int(match[3])}", field="files")


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
    if len(shape) > _MAX_DIMENSIONS:
        raise InvalidRequest(f"{shown}: tensor {name!r} has {len(shape)} dimensions", field="files")
    if not (0 <= begin <= end and base + end <= size) or any(n < 0 for n in shape):
        raise InvalidRequest(f"{shown}: tensor {name!r} lies outside the file", field="files")
    kind = _STORED.get(dtype)
    if kind is not None and math.prod(shape) * np.dtype(kind).itemsize != end - begin:
        raise InvalidRequest(
            f"{shown}: tensor {name!r} has {end - begin} bytes, its shape says otherwise", field="files"
        )
    return CheckpointTensor(name, dtype, shape, path, base + begin, end - begin)
