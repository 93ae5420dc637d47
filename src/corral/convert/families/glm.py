"""GLM 4 and GLM OCR with its eyes. GLM 4.7 Flash is in deepseek.py.

With positions in three dimensions ggml rotates half-split rows only, while these checkpoints keep pairs side by side.
Facts: llama.cpp conversion/glm.py, b11549.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import gguf
import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, head_dim, rope, rotary_width
from corral.convert.family import Family, Metadata, change
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.glm import GLM4V
from corral.convert.weights import Array, Weight

_LAYER = re.compile(r"^model\.layers\.(\d{1,4})\.")
_ROTATED_PART = 0.5
_TURN_ENDS = {"eot": "<|user|>", "eom": "<|observation|>"}


def _glm(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    return {**decoder(config, checkpoint), "rope.dimension_count": rotary_width(config, _ROTATED_PART)}


def _trunk(weights: Mapping[str, Weight], config: HubConfig) -> dict[str, Weight]:
    """Without draft layers, of which the engine has no use in this architecture."""
    layers = config.layers()
    last = {name: match for name in weights if (match := _LAYER.match(name))}
    return {name: weight for name, weight in weights.items() if name not in last or int(last[name][1]) < layers}


def _half_split(_name: str, weight: Weight, config: HubConfig) -> Weight:
    if not rope(config).has("mrope_section"):
        return weight
    width, turned = head_dim(config), rotary_width(config, _ROTATED_PART)
    heads = weight.need_dims(1, 2).need_multiple(width).shape[0] // width
    order = np.concatenate([np.arange(0, turned, 2), np.arange(1, turned, 2), np.arange(turned, width)])

    def move(values: Array) -> Array:
        return values.reshape(heads, width, *values.shape[1:])[:, order].reshape(values.shape)

    return weight.moved(weight.shape, move)


_RULES = (change(r"\.(q|k)_proj\.(weight|bias)$", _half_split),)
_TEXT = Family(gguf.MODEL_ARCH.GLM4, _glm, _RULES, gather=_trunk, pre="glm4", turn_ends=_TURN_ENDS)
_OCR = Family(gguf.MODEL_ARCH.GLM4, _glm, _RULES, gather=_trunk, projector=GLM4V, pre="glm4", turn_ends=_TURN_ENDS)

FAMILIES = {"Glm4ForCausalLM": _TEXT, "GlmOcrForConditionalGeneration": _OCR}
