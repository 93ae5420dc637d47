"""Llama 4's eye: vision transformer, pixel shuffle, two projections. Facts: llama.cpp conversion/llama4.py, b11549."""

from __future__ import annotations

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Metadata, Projector, rename
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.encoder import encoder, vision


def _metadata(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    eye = vision(config)
    ratio = eye.number("pixel_shuffle_ratio", default=0.5)
    if not 0 < ratio <= 1:
        raise eye.refuse("pixel_shuffle_ratio", "a number up to 1")
    return {
        **encoder(config, checkpoint, "llama4"),
        "vision.attention.layer_norm_epsilon": eye.number("norm_eps", default=1e-5),
        "vision.projector.scale_factor": int(1 / ratio),
        "use_gelu": True,
    }


LLAMA4 = Projector(
    _metadata,
    (
        rename(r"^multi_modal_projector\.linear_1\.weight$", "mm.model.fc.weight"),
        rename(r"^vision_model\.positional_embedding_vlm$", "v.position_embd.weight"),
        # Under the name that the library's table has for it the engine's graph would pass over it.
        rename(r"^vision_model\.model\.layers\.(\d+)\.post_attention_layernorm\.(weight|bias)$", r"v.blk.\1.ln2.\2"),
    ),
)
