"""Pixtral, the eye of Mistral Small 3.1 and Ministral 3. Facts: llama.cpp conversion/llava.py, b11549.

The engine ends each row of a picture with the embedding of [IMG_BREAK], which it wants beside the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Metadata, Projector, change
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.encoder import CLIP_MEAN, CLIP_STD, encoder, vision
from corral.convert.rotary import interleaved
from corral.convert.weights import Weight
from corral.errors import InvalidRequest

_NORM_EPSILON = 1e-5  # written in the model's code
_BREAK = "[IMG_BREAK]"


def _metadata(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    eye = vision(config)
    act = eye.text("hidden_act", default="gelu")
    if act not in {"silu", "gelu"}:
        raise eye.refuse("hidden_act", "silu or gelu")
    return {
        **encoder(config, checkpoint, "pixtral", CLIP_MEAN, CLIP_STD),
        "vision.attention.layer_norm_epsilon": eye.number("layer_norm_eps", default=_NORM_EPSILON),
        "vision.spatial_merge_size": config.count("spatial_merge_size", default=2),
        f"use_{act}": True,
    }


def _rotary(_name: str, weight: Weight, config: HubConfig) -> Weight:
    return interleaved(weight, vision(config).count("num_attention_heads"))


def _break_row(_config: HubConfig, checkpoint: Checkpoint, weights: Mapping[str, Weight]) -> dict[str, Weight]:
    table = next((weight for name, weight in weights.items() if name.endswith("embed_tokens.weight")), None)
    number = checkpoint.added_token(_BREAK)
    if table is None or number is None:
        raise InvalidRequest(
            f"tokenizer.json: token {_BREAK!r} is missing, with which pictures' rows end", field="files"
        )
    if number >= table.shape[0]:
        raise table.wrong_shape(f"a row {number} for {_BREAK}")
    return {"v.token_embd.img_break": table.need_dims(2).cut(number, number + 1).shaped(table.shape[1])}


PIXTRAL = Projector(_metadata, (change(r"\.(q|k)_proj\.(weight|bias)$", _rotary),), _break_row)
