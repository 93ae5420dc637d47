"""LFM 2 VL's eye: SigLIP 2 over patches of any grid, pixel unshuffle, two projections.

Facts: llama.cpp conversion/lfm2.py, b11549.
"""

from __future__ import annotations

import math

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Made, Metadata, Projector, drop, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.encoder import SIGLIP_RENAMES, encoder, preprocessor, vision
from corral.convert.weights import Weight

_IMAGE_SIZE = 256  # of the positions that were learnt; they are stretched for other sizes
_RESAMPLING = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def _metadata(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    eye = vision(config)
    filled = HubConfig({**config.values, "vision_config": {"image_size": _IMAGE_SIZE, **eye.values}})
    data = encoder(filled, checkpoint, "lfm2")
    used = config.values.get("vision_feature_layer")
    if isinstance(used, int) and -eye.layers() <= used < 0:
        data["vision.block_count"] = eye.layers() + used + 1
    data |= {
        "vision.attention.layer_norm_epsilon": eye.number("layer_norm_eps", default=1e-6),
        "vision.projector.scale_factor": config.count("downsample_factor", default=2),
        "use_gelu": True,
    }
    pictures = preprocessor(checkpoint)
    if pictures.has("resample"):
        method = pictures.integer("resample")
        if method not in _RESAMPLING:
            raise pictures.refuse("resample", "1, 2 or 3")
        data["vision.image_resize_algo"] = _RESAMPLING[method]
    return data


def _patches(name: str, weight: Weight, config: HubConfig) -> Made:
    """A matrix over flattened patches (row, column, colour) as a convolution (colour, row, column)."""
    out, flat = weight.need_dims(2).shape
    side = math.isqrt(flat // 3)
    if 3 * side * side != flat:
        raise weight.wrong_shape("square patches of three colours")
    square = weight.shaped(out, side, side, 3)
    yield name, square.moved((out, 3, side, side), lambda values: values.transpose(0, 3, 1, 2))


LFM2 = Projector(
    _metadata,
    (drop(r"^vision_tower\.vision_model\.head\."), rule(r"\.patch_embedding\.weight$", _patches)),
    renames=SIGLIP_RENAMES,
)
