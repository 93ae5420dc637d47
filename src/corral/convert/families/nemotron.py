"""Nemotron 3 and Nemotron H: each layer is a Mamba 2 mixer, attention, a feed-forward layer or experts.

Facts: llama.cpp conversion/nemotron.py, granite.py and mamba.py, b11549.
"""

from __future__ import annotations

import gguf
import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, head_dim
from corral.convert.family import Family, Metadata, change, drop, rename, squeezed
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight

_WORDS = {"M": "mixer", "*": "attention", "-": "mlp", "E": "moe"}
_KINDS = {"mamba": "mixer", "linear_attention": "mixer", "full_attention": "attention"}
_CONTEXT = 2**20  # no rotary positions set a limit
_SIGMOID = 2


def _kinds(config: HubConfig) -> list[str]:
    """What each layer is: from a pattern of letters or a list of words."""
    pattern = config.values.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        kinds = [_WORDS.get(letter, "") for letter in pattern]
    else:
        kinds = [_KINDS.get(kind, kind) for kind in config.texts("layers_block_type")]
    if not 0 < len(kinds) <= 1024 or not set(kinds) <= set(_WORDS.values()):
        raise config.refuse("layers_block_type", "a list of layers of known kinds")
    return kinds


def _nemotron(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    kinds = _kinds(config)
    filled = config.with_defaults(num_hidden_layers=len(kinds))
    data = decoder(filled, checkpoint)
    heads = config.count("mamba_num_heads")
    epsilon = config.number("layer_norm_epsilon", "rms_norm_eps", default=1e-5)
    width = config.count("moe_intermediate_size") if _has_experts(config) else config.count("intermediate_size")
    wide, key_value = ("moe" if _has_experts(config) else "mlp"), config.count("num_key_value_heads")
    data |= {
        "block_count": len(kinds),
        "context_length": _CONTEXT,
        "attention.layer_norm_epsilon": epsilon,
        "attention.layer_norm_rms_epsilon": epsilon,
        "attention.key_length": head_dim(config),
        "attention.value_length": head_dim(config),
        "attention.head_count_kv": [key_value if kind == "attention" else 0 for kind in kinds],
        "feed_forward_length": [width if kind == wide else 0 for kind in kinds],
        "rope.scaling.finetuned": False,
        "ssm.conv_kernel": config.count("conv_kernel"),
        "ssm.state_size": config.count("ssm_state_size"),
        "ssm.group_count": config.count("n_groups"),
        "ssm.inner_size": heads * config.count("mamba_head_dim"),
        "ssm.time_step_rank": heads,
    }
    if _has_experts(config):
        data |= {
            "expert_shared_feed_forward_length": config.count("moe_shared_expert_intermediate_size"),
            "expert_shared_count": config.integer("n_shared_experts", default=0),
            "expert_weights_norm": config.flag("norm_topk_prob", default=True),
            "expert_weights_scale": config.number("routed_scaling_factor", default=1.0),
        }
        if config.has("moe_latent_size"):
            data["moe_latent_size"] = config.count("moe_latent_size")
    else:
        data = {key: value for key, value in data.items() if not key.startswith("expert_")}
    return data


def _has_experts(config: HubConfig) -> bool:
    return "moe" in _kinds(config)


def _column(_name: str, weight: Weight, _config: HubConfig) -> Weight:
    return weight.need_dims(1).shaped(weight.shape[0], 1)


def _decay(name: str, weight: Weight, config: HubConfig) -> Weight:
    return _column(name, weight, config).computed(lambda values: -np.exp(values))


def _grouped(_name: str, weight: Weight, config: HubConfig) -> Weight:
    groups = config.count("n_groups")
    return weight.need_dims(1).need_multiple(groups).shaped(groups, weight.shape[0] // groups)


_RULES = (
    drop(r"^mtp\."),  # the engine knows one form of it, which few checkpoints have
    change(r"\.A_log$", _decay),
    change(r"\.mixer\.D$", _column),
    change(r"\.conv1d\.weight$", squeezed),
    change(r"\.mixer\.norm\.weight$", _grouped),
    rename(r"\.dt_bias$", ".dt.bias"),
    rename(r"\.e_score_correction_bias$", ".e_score_correction.bias"),
    rename(r"^backbone\.layers\.(\d+)\.mixer\.experts\.(up|down)_proj(\.weight)?$", r"blk.\1.ffn_\2_exps.weight"),
)
_RENAMES = ((r"^model\.layers\.(\d+)\.(mixer|norm)\.", r"backbone.layers.\1.\2."),)


def _family(arch: object) -> Family:
    return Family(arch, _nemotron, _RULES, _RENAMES, blocks=lambda config, _checkpoint: len(_kinds(config)))


DENSE, MIXTURE = _family(gguf.MODEL_ARCH.NEMOTRON_H), _family(gguf.MODEL_ARCH.NEMOTRON_H_MOE)


def choose(config: HubConfig) -> Family:
    """Both kinds go by one class."""
    return MIXTURE if _has_experts(config) else DENSE
