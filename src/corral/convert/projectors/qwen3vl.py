"""The eye of Qwen 3 VL and of Qwen 3.5, with or without inner layers that feed the text's first layers.

Facts: llama.cpp conversion/qwen3vl.py, b11549.
"""

from __future__ import annotations

import math
import re

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Made, Metadata, Projector, rename, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.encoder import encoder, frames, vision
from corral.convert.weights import Weight

_INNER = re.compile(r"\.deepstack_merger_list\.(\d+)\.(norm|linear_fc1|linear_fc2)\.(weight|bias)$")
_PARTS = {"norm": "norm", "linear_fc1": "fc1", "linear_fc2": "fc2"}


def _metadata(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    eye = vision(config)
    side = math.isqrt(eye.count("num_position_embeddings", default=2304))
    size = {"image_size": side * eye.count("patch_size", default=16)}
    inner = eye.integers("deepstack_visual_indexes", default=[])
    return {
        **encoder(HubConfig({**config.values, "vision_config": {**size, **eye.values}}), checkpoint, "qwen3vl_merger"),
        "vision.attention.layer_norm_epsilon": config.text_model().number("rms_norm_eps", default=1e-6),
        "vision.spatial_merge_size": eye.count("spatial_merge_size", default=2),
        "vision.is_deepstack_layers": [layer in inner for layer in range(eye.layers())],
        "use_gelu": True,
    }


def _inner_merger(name: str, weight: Weight, config: HubConfig) -> Made:
    match, layers = _INNER.search(name), vision(config).integers("deepstack_visual_indexes", default=[])
    if match is None or int(match[1]) >= len(layers):
        raise weight.wrong_shape(f"{len(layers)} inner mergers")
    yield f"v.deepstack.{layers[int(match[1])]}.{_PARTS[match[2]]}.{match[3]}", weight


QWEN3VL = Projector(
    _metadata,
    (
        rule(r"\.deepstack_merger_list\.", _inner_merger),
        rename(r"^visual\.merger\.linear_fc1\.", "mm.0."),
        rename(r"^visual\.merger\.linear_fc2\.", "mm.2."),
        rename(r"^visual\.merger\.norm\.", "v.post_ln."),
        rule(r"\.patch_embed\.proj\.weight$", frames),
        rename(r"^visual\.patch_embed\.proj\.bias$", "v.patch_embd.bias"),
    ),
)
