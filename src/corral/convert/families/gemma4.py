"""Gemma 4 of all sizes with its eyes and ears, and Gemma 3n, whose eyes and ears the engine's layout here lacks.

Both keep embeddings a layer and share keys and values between late layers; norms are kept as they are. Facts: llama.cpp
conversion/gemma.py, b11549.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from statistics import NormalDist

import gguf
import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, rope
from corral.convert.family import Family, Head, Metadata, rename, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.gemma4 import GEMMA4
from corral.convert.weights import Weight, constant, padded, stacked

_NEVER = 1e30  # a rotary factor that turns nothing
_MATRICES = re.compile(r"^model\.(altup_projections|altup_unembed_projections)\.(\d)\.weight$")


def _common(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    """Metadata of both; the width of feed-forward layers may be one for all or a list."""
    widths = config.values.get("intermediate_size")
    scalar = config
    if isinstance(widths, list):
        scalar = HubConfig({**config.values, "intermediate_size": max(config.integers("intermediate_size"), default=0)})
    data = decoder(scalar, checkpoint)
    if isinstance(widths, list):
        data["feed_forward_length"] = config.integers("intermediate_size")
    local = rope(config, "sliding_attention")
    data |= {
        "attention.sliding_window": config.integer("sliding_window"),
        "attention.sliding_window_pattern": [kind == "sliding_attention" for kind in config.texts("layer_types")],
        "attention.shared_kv_layers": config.integer("num_kv_shared_layers", default=0),
        "embedding_length_per_layer_input": config.integer("hidden_size_per_layer_input", default=0),
        "rope.freq_base": rope(config).number("rope_theta", default=1_000_000.0),
        "rope.freq_base_swa": local.number("rope_theta", "rope_local_base_freq", default=10_000.0),
    }
    if config.section("rope_parameters").values == {} and config.has("rope_local_base_freq"):
        data["rope.freq_base_swa"] = config.number("rope_local_base_freq")
    if config.has("final_logit_softcapping"):
        data["final_logit_softcapping"] = config.number("final_logit_softcapping")
    return data


def _of_global_layers(config: HubConfig, old: str, new: str) -> int | None:
    """A number that layers of full attention have for themselves: under a key of its own, or layer by layer."""
    if config.has(old):
        return config.count(old)
    kinds, layers = config.texts("layer_types"), config.section("per_layer_config")
    for number, kind in enumerate(kinds):
        own = layers.section(str(number))
        if kind == "full_attention" and own.has(new):
            return own.count(new)
    return None


def _gemma4(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = _common(config, checkpoint)
    wide, width = _global_width(config), config.count("head_dim")
    data |= {
        "attention.key_length": wide,
        "attention.value_length": wide,
        "attention.key_length_swa": width,
        "attention.value_length_swa": width,
        "rope.dimension_count": wide,
        "rope.dimension_count_swa": width,
    }
    kinds = config.texts("layer_types")
    heads = _of_global_layers(config, "num_global_key_value_heads", "num_key_value_heads")
    if heads is not None:
        local = config.count("num_key_value_heads")
        data["attention.head_count_kv"] = [heads if kind == "full_attention" else local for kind in kinds]
    if config.flag("use_double_wide_mlp", default=False):
        first, inner = len(kinds) - config.integer("num_kv_shared_layers", default=0), config.count("intermediate_size")
        data["feed_forward_length"] = [inner if number < first else 2 * inner for number in range(len(kinds))]
    return data


def _global_width(config: HubConfig) -> int:
    found = _of_global_layers(config, "global_head_dim", "head_dim")
    if found is None or found > 2**16:
        raise config.refuse("global_head_dim", "the width of heads in layers of full attention")
    return found


def _factors(config: HubConfig, _checkpoint: Checkpoint) -> dict[str, Weight]:
    """Layers of full attention turn a part of each half of a head: the rest gets a factor that turns nothing."""
    half = _global_width(config) // 2
    turned = min(half, int(half * rope(config).positive("partial_rotary_factor", default=0.25)))
    values = np.full(half, _NEVER, np.float32)
    values[:turned] = 1.0
    return {"rope_freqs.weight": constant("rope_freqs.weight", values)}


def _gemma3n(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    inputs = config.count("altup_num_inputs", default=4)
    if inputs != 4:
        raise config.refuse("altup_num_inputs", "4")
    sparsity = config.numbers("activation_sparsity_pattern")
    if not all(0 <= part < 1 for part in sparsity):
        raise config.refuse("activation_sparsity_pattern", "numbers from 0 to 1")
    return {
        **_common(config, checkpoint),
        "altup.active_idx": config.integer("altup_active_idx", default=0),
        "altup.num_inputs": inputs,
        "activation_sparsity_scale": [NormalDist().inv_cdf(part) if part else -np.inf for part in sparsity],
    }


def _gather3n(weights: Mapping[str, Weight], config: HubConfig) -> dict[str, Weight]:
    """Projections of the parallel streams as stacks; embeddings as long as the vocabulary, which has media tokens."""
    found: dict[str, Weight] = {}
    streams: dict[str, dict[int, Weight]] = {}
    for name, weight in weights.items():
        match = _MATRICES.match(name)
        if match:
            streams.setdefault(match[1], {})[int(match[2])] = weight
        elif name.endswith(("embed_tokens.weight", "embed_tokens_per_layer.weight")):
            found[name] = padded(weight.need_dims(2), config.count("vocab_size", default=weight.shape[0], most=2**22))
        else:
            found[name] = weight
    for kind, members in streams.items():
        found[f"model.{kind}.weight"] = stacked([members[number] for number in sorted(members)])
    return found


_RULES = (
    rename(r"\.layer_scalar$", ".layer_scalar.weight"),
    rename(r"\.experts\.(gate_up_proj|down_proj)$", r".experts.\1.weight"),
    rename(r"^model\.layers\.(\d+)\.router\.scale$", r"blk.\1.ffn_gate_inp.scale"),
    rename(r"^model\.layers\.(\d+)\.router\.per_expert_scale$", r"blk.\1.ffn_down_exps.scale"),
)
_RULES3N = (rule(r"\.correct_output_scale$", lambda name, weight, _config: [(f"{name}.weight", weight)]),)
_GEMMA4 = Family(
    gguf.MODEL_ARCH.GEMMA4,
    _gemma4,
    _RULES,
    more_tensors=_factors,
    projector=GEMMA4,
    tokenizer="gemma4",
    pre="gemma4",
    head=Head.USUALLY_TIED,
)
_GEMMA3N = Family(gguf.MODEL_ARCH.GEMMA3N, _gemma3n, _RULES3N, gather=_gather3n, head=Head.USUALLY_TIED)

FAMILIES = {
    "Gemma4ForConditionalGeneration": _GEMMA4,
    "Gemma4ForCausalLM": _GEMMA4,
    "Gemma3nForConditionalGeneration": _GEMMA3N,
    "Gemma3nForCausalLM": _GEMMA3N,
}
