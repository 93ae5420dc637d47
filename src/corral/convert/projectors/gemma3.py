"""Gemma 3's eye: SigLIP, average pooling, one projection. Facts: llama.cpp conversion/gemma.py, b11549."""

from __future__ import annotations

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Metadata, Projector, add_one, change, drop, rename
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.encoder import SIGLIP_RENAMES, encoder, preprocessor, vision

_USUAL_FACTOR = 4


def _metadata(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    eye = vision(config)
    data = encoder(config, checkpoint, "gemma3")
    data["vision.attention.layer_norm_epsilon"] = eye.number("layer_norm_eps", default=1e-6)
    data["use_gelu"] = True
    tokens = config.count(
        "mm_tokens_per_image", default=preprocessor(checkpoint).count("image_seq_length", default=256)
    )
    factor = eye.count("image_size") // eye.count("patch_size") // max(1, int(tokens**0.5))
    if factor not in {0, _USUAL_FACTOR}:
        data["vision.projector.scale_factor"] = factor
    return data


GEMMA3 = Projector(
    _metadata,
    (
        drop(r"^vision_tower\.vision_model\.head\."),
        rename(r"\.mm_input_projection_weight$", ".mm_input_projection.weight"),
        change(r"\.mm_soft_emb_norm\.weight$", add_one),
    ),
    renames=SIGLIP_RENAMES,
)
