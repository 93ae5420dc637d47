"""What decoders have in common: metadata of attention, rotary positions and experts; rotary rows; expert stacks."""

from __future__ import annotations

import math

import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.yarn import stretched
from corral.convert.family import Made, Metadata, rename, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight, constant

_WIDEST_HEAD = 2**20
_GATINGS = {"softmax": 1, "sigmoid": 2}


def decoder(config: HubConfig, _checkpoint: Checkpoint) -> Metadata:
    """Metadata that all decoder families share."""
    heads = config.count("num_attention_heads")
    data: Metadata = {
        "context_length": config.integer("max_position_embeddings", default=131072),
        "embedding_length": config.count("hidden_size"),
        "block_count": config.layers(),
        "feed_forward_length": config.integer("intermediate_size", default=0),
        "attention.head_count": heads,
        "attention.head_count_kv": config.count("num_key_value_heads", default=heads),
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", "norm_eps", default=1e-6),
        "vocab_size": config.count("vocab_size"),
    }
    if config.has("head_dim"):
        data["attention.key_length"] = data["attention.value_length"] = config.count("head_dim")
    return data | _rotary(config) | _experts(config)


def rope(config: HubConfig, attention: str = "full_attention") -> HubConfig:
    """Rotary parameters of a kind of attention; transformers 5 nests them under `rope_parameters`, by kind or not."""
    nested = config.section("rope_parameters")
    if nested.has(attention):
        nested = nested.section(attention)
    scaling = config.section("rope_scaling")
    merged = {**config.values, **scaling.values, **nested.values}
    if merged.get("rope_type") is None and isinstance(merged.get("type"), str):
        merged["rope_type"] = merged["type"]
    return HubConfig(merged, "config.json: rope_parameters")


def head_dim(config: HubConfig) -> int:
    """Width of one attention head."""
    if config.has("head_dim"):
        return config.count("head_dim", most=_WIDEST_HEAD)
    return config.count("hidden_size", most=_WIDEST_HEAD) // config.count("num_attention_heads")


def rotary_width(config: HubConfig, default: float = 1.0) -> int:
    """How many entries of a head are rotated."""
    return int(head_dim(config) * rope(config).number("partial_rotary_factor", default=default))


def llama3_factors(config: HubConfig, _checkpoint: Checkpoint) -> dict[str, Weight]:
    """Llama 3.1's stretched rotary frequencies, as one factor per pair of dimensions."""
    settings = rope(config)
    if settings.text("rope_type", default="default") != "llama3":
        return {}
    dim, base = head_dim(config), settings.positive("rope_theta", default=10000.0)
    waves = 2 * math.pi * base ** (np.arange(0, dim, 2, dtype=np.float64) / dim)
    factor = settings.positive("factor", default=8.0)
    low, high = settings.number("low_freq_factor", default=1.0), settings.number("high_freq_factor", default=4.0)
    context = settings.positive("original_max_position_embeddings", default=8192)
    span = high - low
    smooth = np.clip((context / waves - low) / span, 0.0, 1.0) if span else (context / waves >= low) * 1.0
    factors = np.asarray(1.0 / ((1.0 - smooth) / factor + smooth), np.float32)
    return {"rope_freqs.weight": constant("rope_freqs.weight", factors)}


def window_pattern(config: HubConfig, every: int) -> Metadata:
    """Which layers look at a window only, where the config has it otherwise than the engine: each but every n-th."""
    layers = config.layers()
    every_other = config.count("sliding_window_pattern", "_sliding_window_pattern", default=every)
    usual = [(number + 1) % every != 0 for number in range(layers)]
    plan = ["full_attention" if (n + 1) % every_other == 0 else "sliding_attention" for n in range(layers)]
    kinds = config.texts("layer_types", default=plan)
    if len(kinds) < layers:
        raise config.refuse("layer_types", f"{layers} entries")
    windows = [kind == "sliding_attention" for kind in kinds[:layers]]
    return {} if windows == usual else {"attention.sliding_window_pattern": windows}


def packed_experts(name: str, weight: Weight, config: HubConfig) -> Made:
    """An expert stack that holds gate and up together, one after the other: (expert, 2 x width, embedding)."""
    weight.need_dims(3).need_multiple(2, axis=1)
    half = weight.shape[1] // 2
    stem = name.removesuffix(".weight").removesuffix(".gate_up_proj")
    yield f"{stem}.gate_proj.weight", weight.cut(0, half, axis=1)
    yield f"{stem}.up_proj.weight", weight.cut(half, 2 * half, axis=1)


PACKED = (
    rule(r"\.experts\.gate_up_proj(\.weight)?$", packed_experts),
    rename(r"\.experts\.down_proj$", ".experts.down_proj.weight"),
)


def _rotary(config: HubConfig) -> Metadata:
    settings, data = rope(config), Metadata()
    if settings.has("rope_theta"):
        data["rope.freq_base"] = settings.number("rope_theta")
    local = config.section("rope_parameters").section("sliding_attention")
    if local.has("rope_theta"):
        data["rope.freq_base_swa"] = local.number("rope_theta")
    data |= stretched(settings)
    if settings.has("mrope_section"):
        data["rope.dimension_sections"] = (settings.integers("mrope_section") + [0] * 4)[:4]
    return data


def _experts(config: HubConfig) -> Metadata:
    data = Metadata()
    integers = {
        "expert_count": ("num_local_experts", "num_experts", "n_routed_experts"),
        "expert_used_count": ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
        "expert_feed_forward_length": ("moe_intermediate_size",),
        "expert_group_count": ("n_group",),
        "expert_group_used_count": ("topk_group",),
    }
    if not any(config.has(name) for name in integers["expert_count"]):
        return data
    for key, names in integers.items():
        if any(config.has(name) for name in names):
            data[key] = config.integer(*names)
    scoring = config.text("scoring_func", "score_function", default="")
    if scoring:
        if scoring not in _GATINGS:
            raise config.refuse("scoring_func", " or ".join(_GATINGS))
        data["expert_gating_func"] = _GATINGS[scoring]
    return data
