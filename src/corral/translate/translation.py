"""`Translation`: the file that will be written, to the byte: metadata as bytes or ranges of the source, and recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from corral.gguf.encoding import (
    Scalar,
    encode_array,
    encode_array_head,
    encode_preamble,
    encode_scalar,
    encode_tensors,
    encode_text,
)
from corral.gguf.types import ValueType
from corral.translate.content import Span
from corral.translate.recipes import Recipe


@dataclass(frozen=True, slots=True)
class MetadataValue:
    """A value as its bytes (type included): some of our own, then some of the source's, either of which may be none."""

    head: bytes
    rest: Span = field(default_factory=lambda: Span(0, 0))

    @classmethod
    def scalar(cls, kind: ValueType, value: Scalar) -> MetadataValue:
        """A number, a boolean or a string."""
        return cls(encode_scalar(kind, value))

    @classmethod
    def array(cls, kind: ValueType, values: Sequence[Scalar]) -> MetadataValue:
        """An array."""
        return cls(encode_array(kind, values))

    @classmethod
    def array_of(cls, kind: ValueType, length: int, elements: Span) -> MetadataValue:
        """An array whose elements stand in the source."""
        return cls(encode_array_head(kind, length), elements)

    @property
    def size_bytes(self) -> int:
        """Of the value."""
        return len(self.head) + self.rest.size_bytes


@dataclass(frozen=True)
class Translation:
    """What `write` makes: `metadata` in order, `tensors` in order, every tensor aligned."""

    architecture: str
    metadata: tuple[tuple[str, MetadataValue], ...]
    tensors: tuple[Recipe, ...]
    alignment: int

    @cached_property
    def size_bytes(self) -> int:
        """Exactly the size of the file."""
        return self.data_offset + sum(recipe.size_bytes + self.padding(recipe.size_bytes) for recipe in self.tensors)

    @cached_property
    def data_offset(self) -> int:
        """Where the first tensor's bytes begin."""
        head = len(self.preamble()) + len(self.tensor_list())
        head += sum(len(encode_text(key)) + value.size_bytes for key, value in self.metadata)
        return head + self.padding(head)

    def preamble(self) -> bytes:
        """The file's first bytes."""
        return encode_preamble(len(self.tensors), len(self.metadata))

    def tensor_list(self) -> bytes:
        """The names, shapes, types and offsets of all tensors."""
        return encode_tensors([(one.name, one.shape, one.type_name) for one in self.tensors], self.alignment)

    def padding(self, size_bytes: int) -> int:
        """Bytes that follow so many until the next aligned place."""
        return -size_bytes % self.alignment
