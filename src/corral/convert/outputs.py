"""The tensors of a GGUF to be: a name, a type, and the weight that its bytes come from, a piece at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import gguf
import numpy as np

from corral.convert.weights import Array, Weight, as_float32, round_bfloat16

_KINDS = gguf.GGMLQuantizationType
_BLOCK = re.compile(r"blk\.(\d+)\.")
# What the engine computes in float32 only, and what is too small to matter and better exact. BERT's own position_embd
# keeps 16 bits, as Ollama writes it.
_FLOAT32 = re.compile(
    r"(ffn_gate_inp|ffn_gate_inp_shexp|[av]\.position_embd|token_types|ssm_conv1d|shortconv\.conv|patch_merger)\.weight$"
    r"|(altup_correct_coef|altup_predict_coef|conv_dw|a\.conv1d\.\d+|a\.input_projection)\.weight$"
    r"|_norm\.weight$|patch_embd\.weight(\.1)?$|\.bias$|(?<!\.weight)(?<!\.weight\.1)$"
)
_FLOAT16 = re.compile(r"^mm\.input_projection\.weight$")  # the engine turns it round, which it can for few types


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor to write."""

    name: str
    weight: Weight

    @property
    def kind(self) -> int:
        """ggml's type that it is stored as."""
        if self.weight.dtype == "MXFP4":
            return int(_KINDS.MXFP4)
        if len(self.weight.shape) <= 1 or _FLOAT32.search(self.name):
            return int(_KINDS.F32)
        is_bfloat = self.weight.is_bfloat and not _FLOAT16.search(self.name)
        return int(_KINDS.BF16 if is_bfloat else _KINDS.F16)

    @property
    def block(self) -> int:
        """The number of its block, -1 outside of blocks."""
        match = _BLOCK.match(self.name)
        return int(match[1]) if match else -1

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        values, size = gguf.GGML_QUANT_SIZES[_KINDS(self.kind)]
        return math.prod(self.weight.shape) // int(values) * int(size)

    def pieces(self) -> Iterator[Array]:
        """The bytes in order."""
        for values in self.weight.pieces():
            yield np.ascontiguousarray(self._stored(values)).reshape(-1).view(np.uint8)

    def _stored(self, values: Array) -> Array:
        dtype = self.weight.dtype
        if self.kind == _KINDS.MXFP4 or (self.kind == _KINDS.BF16 and dtype == "BF16"):
            return values
        floats = as_float32(values, dtype)
        if self.kind == _KINDS.BF16:
            return round_bfloat16(floats)
        return floats if self.kind == _KINDS.F32 else floats.astype(np.float16)
