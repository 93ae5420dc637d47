"""Command R (Cohere 1 and 2). Facts: llama.cpp conversion/command_r.py, b11549."""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, head_dim, rope, window_pattern
from corral.convert.family import Family, Head, Metadata
from corral.convert.hubconfig import HubConfig

_GLOBAL_EVERY = 4


def _cohere(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    context = {"max_position_embeddings": config.integer("model_max_length", "max_position_embeddings", default=8192)}
    data = decoder(HubConfig({**config.values, **context}), checkpoint)
    del data["attention.layer_norm_rms_epsilon"]
    data["attention.layer_norm_epsilon"] = config.number("layer_norm_eps", default=1e-5)
    data["logit_scale"] = config.number("logit_scale")
    data["rope.scaling.type"] = "none"
    return data


def _cohere2(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = _cohere(config, checkpoint)
    turned = rope(config).number("partial_rotary_factor", "rotary_pct", default=1.0)
    data["attention.sliding_window"] = config.integer("sliding_window")
    data["rope.dimension_count"] = int(head_dim(config) * turned)
    return data | window_pattern(config, _GLOBAL_EVERY)


FAMILIES = {
    "CohereForCausalLM": Family(gguf.MODEL_ARCH.COMMAND_R, _cohere, head=Head.ALWAYS_TIED),
    "Cohere2ForCausalLM": Family(gguf.MODEL_ARCH.COHERE2, _cohere2, head=Head.ALWAYS_TIED),
}
