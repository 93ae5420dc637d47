"""Phi 3. Facts: llama.cpp conversion/phi.py, b11549."""

from __future__ import annotations

import math

import gguf
import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, rope, rotary_width
from corral.convert.family import Family, Metadata
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight, constant


def _phi3(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = decoder(config, checkpoint)
    context = config.integer("max_position_embeddings", default=131072)
    original = rope(config).count("original_max_position_embeddings", default=max(1, context))
    data["rope.dimension_count"] = rotary_width(config)
    data["rope.scaling.original_context_length"] = original
    data["attention.sliding_window"] = config.integer("sliding_window", default=0)
    if rope(config).has("long_factor"):
        scale = context / original
        data["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    return data


def _factors(config: HubConfig, _checkpoint: Checkpoint) -> dict[str, Weight]:
    names = {"rope_factors_long.weight": "long_factor", "rope_factors_short.weight": "short_factor"}
    settings = rope(config)
    found = {key: settings.numbers(name) for key, name in names.items() if settings.has(name)}
    return {key: constant(key, np.asarray(values, np.float32)) for key, values in found.items()}


FAMILIES = {"Phi3ForCausalLM": Family(gguf.MODEL_ARCH.PHI3, _phi3, more_tensors=_factors)}
