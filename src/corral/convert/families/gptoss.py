"""gpt-oss: experts in MXFP4, repacked without loss; attention sinks.

A block is 32 values: one shared exponent and 16 bytes of two 4-bit codes. The checkpoint pairs neighbours in a byte,
ggml pairs value i with value i + 16. Facts: llama.cpp conversion/gpt_oss.py, b11549; ggml-common.h block_mxfp4.
"""

from __future__ import annotations

from collections.abc import Mapping

import gguf
import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, window_pattern
from corral.convert.family import Family, Head, Made, Metadata, rename, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Array, Weight
from corral.errors import InvalidRequest

_GLOBAL_EVERY = 2
_BLOCK_VALUES = 32
_BLOCK_BYTES = 17


def _gptoss(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = decoder(config, checkpoint)
    data["attention.sliding_window"] = config.integer("sliding_window")
    data["expert_feed_forward_length"] = config.count("intermediate_size")
    return data | window_pattern(config, _GLOBAL_EVERY)


def mxfp4(blocks: Weight, scales: Weight) -> Weight:
    """Codes (expert, row, block, 16) and exponents (expert, row, block) as ggml's blocks."""
    blocks.need_dims(4).need_length(_BLOCK_VALUES // 2, axis=3)
    if scales.shape != blocks.shape[:3] or scales.dtype != "U8" or blocks.dtype != "U8":
        raise scales.wrong_shape(f"the exponents of {blocks.name!r}, {list(blocks.shape[:3])}, as U8")
    experts, rows, count = scales.shape

    def packed(start: int, stop: int) -> Array:
        codes = np.asarray(blocks.rows(start, stop))
        values = np.stack([codes & 0x0F, codes >> 4], axis=-1).reshape(*codes.shape[:3], _BLOCK_VALUES)
        half = _BLOCK_VALUES // 2
        paired = values[..., :half] | (values[..., half:] << 4)
        exponents = np.asarray(scales.rows(start, stop))[..., None]
        return np.concatenate([exponents, paired], axis=-1).reshape(stop - start, rows, count * _BLOCK_BYTES)

    return Weight(blocks.name, (experts, rows, count * _BLOCK_VALUES), "MXFP4", packed)


def _paired(weights: Mapping[str, Weight], _config: HubConfig) -> dict[str, Weight]:
    """Blocks and exponents become one weight, under the name without their ending."""
    found = {name: weight for name, weight in weights.items() if not name.endswith(("_blocks", "_scales"))}
    for name, blocks in weights.items():
        if name.endswith("_blocks"):
            stem = name.removesuffix("_blocks")
            scales = weights.get(stem + "_scales")
            if scales is None:
                raise InvalidRequest(f"tensor {stem + '_scales'!r} is missing", field="files")
            found[stem] = mxfp4(blocks, scales)
    return found


def _gate_and_up(name: str, weight: Weight, _config: HubConfig) -> Made:
    """They share a tensor, row by row in turns. What is not quantized stands transposed."""
    stem, end = name.split(".gate_up_proj", 1)
    for kind, start in (("gate", 0), ("up", 1)):
        if end == "_bias":
            yield f"{stem}.{kind}_proj.bias", weight.need_dims(2).every(2, start, axis=1)
        elif weight.dtype == "MXFP4":
            yield f"{stem}.{kind}_proj.weight", weight.every(2, start, axis=1)
        else:
            yield f"{stem}.{kind}_proj.weight", weight.need_dims(3).every(2, start, axis=2).transposed()


def _down(name: str, weight: Weight, _config: HubConfig) -> Made:
    stem, end = name.split(".down_proj", 1)
    if end == "_bias":
        yield f"{stem}.down_proj.bias", weight
    else:
        yield f"{stem}.down_proj.weight", weight if weight.dtype == "MXFP4" else weight.need_dims(3).transposed()


_RULES = (
    rule(r"\.experts\.gate_up_proj(_bias)?$", _gate_and_up),
    rule(r"\.experts\.down_proj(_bias)?$", _down),
    rename(r"\.self_attn\.sinks$", ".self_attn.sinks.weight"),
)

FAMILIES = {
    "GptOssForCausalLM": Family(
        gguf.MODEL_ARCH.GPT_OSS, _gptoss, _RULES, gather=_paired, pre="gpt-4o", head=Head.NEEDED
    ),
}
