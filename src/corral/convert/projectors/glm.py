"""GLM OCR's eye: a vision transformer with norms on q and k, a convolution that merges patches, a gated projection.

Facts: llama.cpp conversion/qwen3vl.py Glm4VVisionModel, b11549.
"""

from __future__ import annotations

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Metadata, Projector, rename, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.encoder import CLIP_MEAN, CLIP_STD, encoder, frames, vision


def _metadata(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    eye = vision(config)
    act = eye.text("hidden_act", default="silu")
    if act not in {"silu", "gelu"}:
        raise eye.refuse("hidden_act", "silu or gelu")
    return {
        **encoder(config, checkpoint, "glm4v", CLIP_MEAN, CLIP_STD),
        "vision.attention.layer_norm_epsilon": eye.number("rms_norm_eps", default=1e-5),
        "vision.spatial_merge_size": eye.count("spatial_merge_size", default=2),
        f"use_{act}": True,
    }


GLM4V = Projector(
    _metadata,
    (
        rule(r"\.patch_embed\.proj\.weight$", frames),
        rename(r"^visual\.patch_embed\.proj\.bias$", "v.patch_embd.bias"),
    ),
)
