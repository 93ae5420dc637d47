"""LFM 2, with and without eyes, and its mixture of experts: short convolutions between layers of attention.

Facts: llama.cpp conversion/lfm2.py, b11549; transformers Lfm2MLP.
"""

from __future__ import annotations

import gguf
import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, packed_experts
from corral.convert.family import Family, Head, Made, Metadata, change, rename, rule, squeezed
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.lfm2 import LFM2
from corral.convert.weights import Weight, constant

_SIGMOID = 2
_MOST_EXPERTS = 2**16


def _short_convolutions(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    full = config.integers("full_attn_idxs", default=[])  # what older configs have
    plan = ["full_attention" if number in full else "conv" for number in range(config.layers())]
    kinds = config.texts("layer_types", default=plan)
    if len(kinds) != config.layers():
        raise config.refuse("layer_types", f"{config.layers()} entries")
    heads = config.count("num_key_value_heads")
    return {
        **decoder(config, checkpoint),
        "attention.head_count_kv": [heads if kind == "full_attention" else 0 for kind in kinds],
        "shortconv.l_cache": config.count("conv_L_cache"),
    }


def _lfm2(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = _short_convolutions(config, checkpoint)
    data["feed_forward_length"] = _width(config)
    return data


def _width(config: HubConfig) -> int:
    """Width of the feed-forward layers, which the config gives before an adjustment."""
    width = config.count("block_ff_dim", "intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return width
    width = int(2 * width / 3)
    if config.has("block_ffn_dim_multiplier"):
        width = int(config.positive("block_ffn_dim_multiplier") * width)
    unit = config.count("block_multiple_of", default=256)
    return -(-width // unit) * unit


def _lfm2moe(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    return {
        **_short_convolutions(config, checkpoint),
        "expert_feed_forward_length": config.count("moe_intermediate_size"),
        "leading_dense_block_count": config.integer("num_dense_layers"),
        "expert_gating_func": _SIGMOID,
    }


def _down(name: str, weight: Weight, config: HubConfig) -> Made:
    """What experts give, times the config's factor, which the engine does not read."""
    scale = np.float32(config.number("routed_scaling_factor", default=1.0))
    stem = name.rpartition(".experts.")[0]
    yield f"{stem}.experts.down_proj.weight", weight if scale == 1 else weight.computed(lambda values: values * scale)


def _biases(config: HubConfig, checkpoint: Checkpoint) -> dict[str, Weight]:
    """The engine wants a bias of each choice of experts; a checkpoint without them has none."""
    if any(name.endswith(".feed_forward.expert_bias") for name in checkpoint.tensors()):
        return {}
    zeros = np.zeros(config.count("num_experts", "num_local_experts", most=_MOST_EXPERTS), np.float32)
    names = [f"blk.{n}.exp_probs_b.bias" for n in range(config.integer("num_dense_layers"), config.layers())]
    return {name: constant(name, zeros) for name in names}


_RULES = (
    change(r"\.conv\.conv\.weight$", squeezed),
    rename(r"model\.layers\.(\d+)\.feed_forward\.expert_bias$", r"blk.\1.exp_probs_b.bias"),
    rename(r"\.experts\.w1\.weight$", ".experts.gate_proj.weight"),
    rename(r"\.experts\.w3\.weight$", ".experts.up_proj.weight"),
    rule(r"\.experts\.(w2\.weight|down_proj(\.weight)?)$", _down),
    rule(r"\.experts\.gate_up_proj(\.weight)?$", packed_experts),
)

FAMILIES = {
    "Lfm2ForCausalLM": Family(gguf.MODEL_ARCH.LFM2, _lfm2, _RULES, pre="lfm2", head=Head.USUALLY_TIED),
    "Lfm2VlForConditionalGeneration": Family(
        gguf.MODEL_ARCH.LFM2, _lfm2, _RULES, projector=LFM2, pre="lfm2", head=Head.USUALLY_TIED
    ),
    "Lfm2MoeForCausalLM": Family(
        gguf.MODEL_ARCH.LFM2MOE, _lfm2moe, _RULES, more_tensors=_biases, pre="lfm2", head=Head.USUALLY_TIED
    ),
}
