"""What the projectors' modules share: the keys of an encoder below `clip.`, and which tensors the engine wants how.

The engine reads the keys and tensors of llama.cpp's tools/mtmd/clip-impl.h and stops where a number has another type
than it expects, so numbers are written anew instead of copied. It adds and convolves in float32 only: vectors become
that here, whatever the file has; a module names its other such tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from corral.errors import UntranslatableModel
from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import has_tensor
from corral.translate.recipes import widened
from corral.translate.view import View

HALF = (0.5, 0.5, 0.5)
# of OpenAI's CLIP, which many encoders were trained with
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BLOCK_PREFIX = {"vision": "v", "audio": "a"}
_BLOCK_LEAVES = ("attn_out", "ffn_up", "ffn_down")  # weights that the engine wants of every block
_MERGED, _APART = ("attn_qkv",), ("attn_q", "attn_k", "attn_v")  # and one of these


def has_eyes(header: GGUFHeader) -> bool:
    """Whether a vision encoder is in the file."""
    return has_tensor(header, "v.")


def has_ears(header: GGUFHeader) -> bool:
    """Whether an audio encoder is in the file."""
    return has_tensor(header, "a.")


def begin(view: View, *prefixes: str) -> None:
    """Make an empty view a projector's file with the source's tensors whose names begin so."""
    view.become("clip")
    view.put("general.type", ValueType.STRING, "mmproj")
    view.take(*prefixes)


class Encoder:
    """The keys of one encoder, `vision` or `audio`; values come from the same key below the source's architecture."""

    def __init__(self, view: View, projector_type: str, *, modality: str = "vision", activation: str = "") -> None:
        """`activation` of the encoder's feed-forward layers: `gelu`, `silu`, or the engine's own choice."""
        self._view = view
        self._modality = modality
        self._blocks = 0
        view.put(f"clip.has_{modality}_encoder", ValueType.BOOL, True)
        view.put(f"clip.{modality}.projector_type", ValueType.STRING, projector_type)
        if activation:
            view.put(f"clip.use_{activation}", ValueType.BOOL, True)

    def blocks(self) -> int:
        """Set and return the number of blocks; raises UntranslatableModel when there cannot be so many."""
        self._blocks = self.integer("block_count")
        if self._blocks > len(self._view.header.tensors):
            raise UntranslatableModel(f"key {self._source('block_count')!r}", f"there are no {self._blocks} blocks")
        return self._blocks

    def integers(self, *keys: str) -> None:
        """Set keys that the source has by the same names; raises as `integer`."""
        for key in keys:
            self.integer(key)

    def integer(self, key: str, source: str = "", default: int | None = None) -> int:
        """Set and return a positive whole number; raises UntranslatableModel when there is none and no default."""
        name = self._source(source or key)
        value = default if default is not None and name not in self._view.header.metadata else self._view.integer(name)
        if value < 1:
            raise UntranslatableModel(f"key {name!r}", f"is {value}")
        self._view.put(self._target(key), ValueType.UINT32, value)
        return value

    def put(self, key: str, value: int) -> None:
        """Set a whole number that the source does not have as a key."""
        self._view.put(self._target(key), ValueType.UINT32, value)

    def number(self, key: str, source: str = "", default: float | None = None) -> float:
        """Set and return a number; raises UntranslatableModel when there is none and no default."""
        name = self._source(source or key)
        value = self._view.header.metadata.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UntranslatableModel(f"key {name!r}", "is not there" if value is None else "is no number")
        self._view.put(self._target(key), ValueType.FLOAT32, value)
        return value

    def normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set how pixels are normalized, by the source's own figures where it has some."""
        for key, default in (("image_mean", mean), ("image_std", std)):
            array = self._view.array(self._source(key))
            values = default if array is None or array.type is not ValueType.FLOAT32 else array.read()
            if len(values) != 3:
                raise UntranslatableModel(f"key {self._source(key)!r}", f"has {len(values)} values for three colours")
            self._view.put_array(self._target(key), ValueType.FLOAT32, values)

    def finish(self, *float32: str, leaves: Sequence[str] = ()) -> None:
        """Widen vectors and the tensors that end so; raises UntranslatableModel for a block without its weights.

        `leaves`: weights of every block that the engine wants besides those of all encoders.
        """
        tensors = self._view.tensors
        for name, recipe in list(tensors.items()):
            if len(recipe.shape) < 2 or name.endswith(float32):
                self._view.change(name, widened)
        for block in range(self._blocks):
            place = f"{_BLOCK_PREFIX[self._modality]}.blk.{block}"
            attention = _MERGED if f"{place}.attn_qkv.weight" in tensors else _APART
            need(self._view, *(f"{place}.{leaf}.weight" for leaf in (*attention, *_BLOCK_LEAVES, *leaves)))

    def _source(self, key: str) -> str:
        """A key's full name in the source; one that begins with a dot stands outside the encoder."""
        architecture = self._view.header.architecture
        return f"{architecture}{key}" if key.startswith(".") else f"{architecture}.{self._modality}.{key}"

    def _target(self, key: str) -> str:
        return f"clip.{self._modality}.{key}"


def need(view: View, *names: str) -> None:
    """Raise UntranslatableModel for the first of these tensors that the new file lacks."""
    for name in names:
        if name not in view.tensors:
            raise UntranslatableModel(f"tensor {name!r}", "is not there")
