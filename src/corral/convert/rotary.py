"""Rows of rotary projections: half-split in transformers, interleaved in GGUF's llama layout."""

from __future__ import annotations

import numpy as np

from corral.convert.weights import Array, Weight


def interleave_rotary(values: Array, heads: int) -> Array:
    """Rows of a rotary projection, from half-split order (transformers) to interleaved order (GGUF llama)."""
    rows = values.shape[0]
    split = values.reshape(heads, 2, rows // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def interleaved(weight: Weight, heads: int) -> Weight:
    """A rotary projection's weight with its rows in GGUF llama's order."""
    weight.need_dims(1, 2).need_multiple(2 * heads)
    return weight.moved(weight.shape, lambda values: interleave_rotary(values, heads))
