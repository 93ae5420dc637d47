"""Gemma 4's eyes and ears: an encoder of clamped layers, a conformer for sound. Not every size hears.

Facts: llama.cpp conversion/gemma.py, b11549.
"""

from __future__ import annotations

import math

import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Made, Metadata, Projector, rename, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.encoder import encoder, vision
from corral.convert.weights import Weight

_EPSILON = 1e-6
_IMAGE_SIZE = 224  # the engine needs a figure and does not use it: pictures keep their proportions
_MEL_BINS = 128
_ZEROS, _ONES = [0.0] * 3, [1.0] * 3


def _metadata(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    filled = HubConfig({**config.values, "vision_config": {"image_size": _IMAGE_SIZE, **vision(config).values}})
    data = encoder(filled, checkpoint, "", _ZEROS, _ONES)
    del data["projector_type"]
    epsilon = vision(config).number("layer_norm_eps", "rms_norm_eps", default=_EPSILON)
    data |= {
        "vision.projector_type": "gemma4v",
        "vision.attention.layer_norm_epsilon": epsilon,
        "vision.projector.scale_factor": vision(config).count("pooling_kernel_size", default=3),
    }
    ear = config.section("audio_config")
    if ear.values and any(".audio_tower." in name for name in checkpoint.tensors()):
        width = ear.count("hidden_size")
        data |= {
            "has_audio_encoder": True,
            "audio.projector_type": "gemma4a",
            "audio.projection_dim": data["vision.projection_dim"],
            "audio.embedding_length": width,
            "audio.feed_forward_length": 4 * width,
            "audio.block_count": ear.layers(),
            "audio.attention.head_count": ear.count("num_attention_heads"),
            "audio.attention.layer_norm_epsilon": ear.number("layer_norm_eps", default=_EPSILON),
            "audio.num_mel_bins": ear.count("input_feat_size", default=_MEL_BINS),
        }
    return data


def _patches(name: str, weight: Weight, _config: HubConfig) -> Made:
    """A matrix over flattened patches (row, column, colour) as a convolution (colour, row, column)."""
    out, flat = weight.need_dims(2).shape
    side = math.isqrt(flat // 3)
    if 3 * side * side != flat:
        raise weight.wrong_shape("square patches of three colours")
    moved = weight.shaped(out, side, side, 3).moved((out, 3, side, side), lambda values: values.transpose(0, 3, 1, 2))
    yield f"model.{name}", moved


def _softplus(name: str, weight: Weight, _config: HubConfig) -> Made:
    yield f"{name}.weight", weight.computed(lambda values: np.logaddexp(np.float32(0), values))


def _depthwise(name: str, weight: Weight, _config: HubConfig) -> Made:
    yield name, weight.need_dims(3).need_length(1, axis=1).shaped(weight.shape[0], weight.shape[2])


GEMMA4 = Projector(
    _metadata,
    (
        rule(r"^vision_tower\.patch_embedder\.input_proj\.weight$", _patches),
        rename(
            r"^vision_tower\.patch_embedder\.position_embedding_table$",
            "model.vision_tower.patch_embedder.position_embedding_table.weight",
        ),
        rename(r"^vision_tower\.(std_bias|std_scale)$", r"model.vision_tower.\1"),
        rule(r"\.per_dim(_key)?_scale$", _softplus),
        rule(r"\.depthwise_conv1d\.weight$", _depthwise),
    ),
    renames=(
        (r"^vision_tower\.encoder\.", "vision_model.model."),
        (r"^audio_tower\.", "conformer."),
        (r"\.linear\.", "."),
        (r"\.layer_scalar$", ".layer_scalar.weight"),
    ),
)
