"""Llama, Mistral, Mixtral, and Mistral 3 and Ministral 3 with their eyes.

Rotary rows of q and k are kept half-split by transformers and interleaved by llama.cpp. Facts: llama.cpp
conversion/llama.py and mistral3.py, b11549.
"""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import PACKED, decoder, head_dim, llama3_factors, rope
from corral.convert.families.yarn import with_log_multiplier
from corral.convert.family import Family, Metadata, change
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.pixtral import PIXTRAL
from corral.convert.rotary import interleaved
from corral.convert.weights import Weight


def _rotary(name: str, weight: Weight, config: HubConfig) -> Weight:
    heads = config.count("num_attention_heads")
    return interleaved(weight, config.count("num_key_value_heads", default=heads) if "k_proj" in name else heads)


_ROTARY = (change(r"\.(q|k)_proj\.(weight|bias)$", _rotary),)


def _llama(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = decoder(config, checkpoint)
    data["rope.dimension_count"] = head_dim(config)
    if config.has("sliding_window") and config.text("model_type", default="") in {"mistral", "mixtral"}:
        data["attention.sliding_window"] = config.integer("sliding_window")
    return data


def _mistral3(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    kind = config.text("model_type", default="mistral")
    if kind not in {"mistral", "mistral3", "ministral3"}:
        raise config.refuse("model_type", "mistral or ministral3")
    data = decoder(config, checkpoint)
    data["rope.dimension_count"] = head_dim(config)
    settings = rope(config)
    data.pop("rope.scaling.attn_factor", None)
    data |= with_log_multiplier(settings)
    if settings.has("llama_4_scaling_beta"):
        data["attention.temperature_scale"] = settings.number("llama_4_scaling_beta")
    return data


_LLAMA = Family(gguf.MODEL_ARCH.LLAMA, _llama, _ROTARY, more_tensors=llama3_factors)
_MIXTRAL = Family(gguf.MODEL_ARCH.LLAMA, _llama, (*_ROTARY, *PACKED), more_tensors=llama3_factors)
_MISTRAL3 = Family(gguf.MODEL_ARCH.MISTRAL3, _mistral3, _ROTARY, projector=PIXTRAL, pre="tekken")

FAMILIES = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "MixtralForCausalLM": _MIXTRAL,
    "Mistral3ForConditionalGeneration": _MISTRAL3,
    "Ministral3ForCausalLM": _MISTRAL3,
}
