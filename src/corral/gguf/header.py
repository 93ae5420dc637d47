"""`GGUFHeader`: what a GGUF file says about itself. Made by reader.py; kept as long as anyone likes.

Scalars and strings are Python values; arrays (vocabularies) stay on disk and are read on demand by `GGUFArray.read`.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from corral.gguf.cursor import MAX_ELEMENT_BYTES, Cursor
from corral.gguf.types import SCALAR_FORMATS, UNKNOWN_FILE_TYPE, ValueType, file_type_name
from corral.regular import open_regular

UNKNOWN_ARCHITECTURE = "unknown"
_CHUNK_ELEMENTS = 65_536
_FLOAT32_EDGE = 3.4028234e38  # decimals from here on may round up to infinity


@dataclass(frozen=True, slots=True)
class GGUFArray:
    """A metadata array that stays in the file at `path`; `read()` opens it again."""

    path: Path
    offset: int  # of the first element
    type: ValueType
    length: int

    @property
    def type_name(self) -> str:
        """The elements' type in lower case: `string`, `float32`, ..."""
        return self.type.name.lower()

    def read(self, most: int | None = None) -> list[Any]:
        """All elements, or the first `most`; float32 values as `shortest_float32` has them.

        Raises InvalidGGUF when the file is no longer what the header said, OSError when it is gone.
        """
        return list(islice(self.iterate(), most))

    def iterate(self) -> Iterator[Any]:
        """The elements one by one, read in chunks; raises like `read`."""
        with open_regular(self.path) as file:
            cursor = Cursor(file.fileno(), os.fstat(file.fileno()).st_size, self.offset)
            if self.type is ValueType.STRING:
                for _ in range(self.length):
                    yield cursor.string("a string of an array", MAX_ELEMENT_BYTES)
                return
            letter = SCALAR_FORMATS[self.type]
            size = struct.calcsize(f"<{letter}")
            for start in range(0, self.length, _CHUNK_ELEMENTS):
                count = min(_CHUNK_ELEMENTS, self.length - start)
                values = struct.unpack(f"<{count}{letter}", cursor.take(count * size, "an array"))
                yield from map(shortest_float32, values) if self.type is ValueType.FLOAT32 else values


GGUFValue = bool | int | float | str | GGUFArray


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor's entry; `shape` is in GGUF order (fastest dimension first), `offset` counts from the file's start."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    elements: int


@dataclass(frozen=True)
class GGUFHeader:
    """A GGUF file's metadata and tensor list."""

    path: Path
    version: int
    alignment: int
    file_size: int
    metadata: Mapping[str, GGUFValue]
    tensors: tuple[TensorInfo, ...]
    spans: Mapping[str, tuple[int, int]]  # where each key's value is in the file, its type included: start, end

    def get(self, key: str, default: Any = None) -> Any:
        """A value by Ollama's rule: `general.` and `tokenizer.` keys as they are, others below the architecture.

        A key that is not there below the architecture is tried as it stands (`split.count`, `adapter.type`).
        Source: ollama fs/gguf/gguf.go KeyValue, 2026-08.
        """
        if not key.startswith(("general.", "tokenizer.")):
            scoped = self.metadata.get(f"{self.architecture}.{key}")
            if scoped is not None:
                return scoped
        return self.metadata.get(key, default)

    def integer(self, key: str) -> int:
        """A value of `get` that should be a whole number; 0 when it is missing or of another type."""
        value = self.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def text(self, key: str) -> str:
        """A value of `get` that should be a string; empty when it is missing or of another type."""
        value = self.get(key)
        return value if isinstance(value, str) else ""

    @property
    def architecture(self) -> str:
        """`general.architecture`, `unknown` when there is none."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) and value else UNKNOWN_ARCHITECTURE

    @property
    def kind(self) -> str:
        """`general.type`: `model`, `adapter`, `projector`, `mmproj`, ...; `unknown` when there is none."""
        return self.text("general.type") or "unknown"

    @property
    def is_adapter(self) -> bool:
        """Whether this is a LoRA adapter."""
        return self.kind == "adapter"

    @property
    def is_projector(self) -> bool:
        """Whether this is a vision or audio projector. Source: ollama server/create.go isProjectorGGUF, 2026-08."""
        if self.kind in {"projector", "mmproj"}:
            return True
        if self.integer("block_count"):
            return False
        has_encoder = self.get("has_vision_encoder") is True or self.get("has_audio_encoder") is True
        return self.integer("vision.block_count") > 0 or (self.architecture == "clip" and has_encoder)

    @property
    def parameter_count(self) -> int:
        """The sum of all tensors' elements; `general.parameter_count` is ignored, as Ollama does."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """The bytes of all tensors: what loading the weights costs."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def file_type(self) -> str:
        """The quantisation's name as create and show use it: file type 0 counts as `unknown`."""
        return file_type_name(self.integer("general.file_type") or -1)

    @property
    def file_type_for_tags(self) -> str:
        """The quantisation's name as tags repairs an `unknown` one: a file type 0 that is present is `F32`."""
        value = self.metadata.get("general.file_type")
        return file_type_name(value) if isinstance(value, int) else UNKNOWN_FILE_TYPE

    @property
    def context_length(self) -> int:
        """Trained context in tokens, 0 when unknown."""
        return self.integer("context_length")

    @property
    def embedding_length(self) -> int:
        """Width of the embeddings, 0 when unknown."""
        return self.integer("embedding_length")

    @property
    def chat_template(self) -> str:
        """The Jinja chat template, empty when there is none."""
        return self.text("tokenizer.chat_template")

    @property
    def pooling_type(self) -> int | None:
        """How an embedding model pools (0 none, 1 mean, 2 cls, 3 last, 4 rank); None for every other model."""
        value = self.get("pooling_type")
        return value if isinstance(value, int) else None

    @property
    def has_vision(self) -> bool:
        """Whether the file has its own vision tower, or says so as a projector."""
        return self.get("vision.block_count") is not None or self._says_true("has_vision_encoder")

    @property
    def has_audio_encoder(self) -> bool:
        """Whether a projector has an audio encoder."""
        return self._says_true("has_audio_encoder")

    def _says_true(self, name: str) -> bool:
        """Whether `name`, or any key that ends in `.name`, is true."""
        return any(value is True for key, value in self.metadata.items() if key == name or key.endswith(f".{name}"))


def shortest_float32(value: float) -> float:
    """The float64 with the fewest digits that is this float32: 1e-05, not 9.999999747378752e-06, as Go prints it."""
    if not math.isfinite(value) or (abs(value) < 2**24 and value == int(value)):
        return value
    raw = struct.pack("<f", value)
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) < _FLOAT32_EDGE and struct.pack("<f", short) == raw:
            return short
    return float(f"{value:.9g}")
