"""Llama 4 with its eyes. Facts: llama.cpp conversion/llama.py and llama4.py, b11549."""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, head_dim, llama3_factors
from corral.convert.family import Family, Made, Metadata, change, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.llama4 import LLAMA4
from corral.convert.weights import Weight


def _llama4(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = decoder(config, checkpoint)
    data["rope.dimension_count"] = head_dim(config)
    # The config's `intermediate_size` is that of an expert; a dense layer's is `intermediate_size_mlp`.
    data["feed_forward_length"] = config.count("intermediate_size_mlp")
    data["expert_feed_forward_length"] = config.count("intermediate_size")
    data["interleave_moe_layer_step"] = _mixture_every(config)
    if set(config.texts("layer_types", default=[])) == {"full_attention"}:
        data["attention.sliding_window"] = 0
    return data


def _mixture_every(config: HubConfig) -> int:
    """Which layers have experts, which the engine knows as each n-th only; 0 = none."""
    every = config.integer("interleave_moe_layer_step", default=1)
    if not config.has("moe_layers"):
        return every
    layers, listed = config.layers(), config.integers("moe_layers")
    every = listed[0] + 1 if listed else 0
    if listed != (list(range(every - 1, layers, every)) if every else []):
        raise config.refuse("moe_layers", "layers at equal distances")
    return every


def _packed_experts(name: str, weight: Weight, _config: HubConfig) -> Made:
    """Gate and up side by side in the last axis: (expert, embedding, 2 x width)."""
    weight.need_dims(3).need_multiple(2, axis=2)
    half = weight.shape[2] // 2
    stem = name.removesuffix(".weight").removesuffix(".gate_up_proj")
    yield f"{stem}.gate_proj.weight", weight.cut(0, half, axis=2).transposed()
    yield f"{stem}.up_proj.weight", weight.cut(half, 2 * half, axis=2).transposed()


_RULES = (
    rule(r"\.experts\.gate_up_proj(\.weight)?$", _packed_experts),
    rule(
        r"\.experts\.down_proj(\.weight)?$",
        lambda name, weight, _config: [
            (name.removesuffix(".weight") + ".weight", weight.need_dims(3).transposed()),
        ],
    ),
    change(r"\.router\.weight$", lambda _name, weight, _config: weight.need_dims(2)),
)
_FAMILY = Family(gguf.MODEL_ARCH.LLAMA4, _llama4, _RULES, more_tensors=llama3_factors, projector=LLAMA4, pre="llama4")

FAMILIES = {"Llama4ForConditionalGeneration": _FAMILY, "Llama4ForCausalLM": _FAMILY}
