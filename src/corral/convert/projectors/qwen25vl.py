"""Qwen 2.5 VL's eye: window attention with full layers between. Facts: llama.cpp conversion/qwenvl.py, b11549."""

from __future__ import annotations

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Made, Metadata, Projector, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.encoder import CLIP_MEAN, CLIP_STD, encoder, frames, vision
from corral.convert.weights import Weight

_NORM_EPSILON = 1e-6  # written in the model's code
_IMAGE_SIZE = 560  # any: pictures keep their size


def _metadata(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    filled = HubConfig({**config.values, "vision_config": {"image_size": _IMAGE_SIZE, **vision(config).values}})
    full = vision(config).integers("fullatt_block_indexes", default=[7, 15, 23, 31])
    every = full[0] + 1 if full else 0
    if every <= 0 or full != [every * (number + 1) - 1 for number in range(len(full))]:
        raise vision(config).refuse("fullatt_block_indexes", "layers at equal distances")
    return {
        **encoder(filled, checkpoint, "qwen2.5vl_merger", CLIP_MEAN, CLIP_STD),
        "vision.attention.layer_norm_epsilon": _NORM_EPSILON,
        "vision.n_wa_pattern": every,
        "vision.spatial_merge_size": vision(config).count("spatial_merge_size", default=2),
        "use_silu": True,
    }


def _apart(name: str, weight: Weight, _config: HubConfig) -> Made:
    third = weight.need_multiple(3).shape[0] // 3
    for number, part in enumerate("qkv"):
        yield name.replace("qkv", part), weight.cut(number * third, (number + 1) * third)


QWEN25VL = Projector(
    _metadata, (rule(r"\.attn\.qkv\.(weight|bias)$", _apart), rule(r"\.patch_embed\.proj\.weight$", frames))
)
