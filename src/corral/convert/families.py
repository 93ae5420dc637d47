"""The model families that can be imported: metadata and tensor changes of each.

A family turns `config.json` into GGUF metadata and names the changes its tensors need. Names of tensors come from the
`gguf` library's own table. Facts about each architecture: llama.cpp's conversion scripts at b11549 and
`transformers`' model code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np

from corral.convert.checkpoint import Array, Checkpoint, first_of, text_config
from corral.errors import InvalidRequest

Metadata = dict[str, Any]
Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """How one architecture is imported; `metadata` keys have no architecture prefix."""

    arch: Any  # gguf.MODEL_ARCH
    metadata: Callable[[Checkpoint, Config], Metadata]
    change: Callable[[str, Array, Config], Array] = lambda _name, values, _config: values
    changes: Callable[[str], bool] = lambda _name: False  # whether `change` is needed for this checkpoint name
    drops: tuple[str, ...] = ()  # checkpoint names that llama.cpp has no use for
    prefixes: tuple[str, ...] = ()  # outer module names to take off
    more_tensors: Callable[[Config], dict[str, Array]] = lambda _config: {}
    embedding: bool = False

    @property
    def name(self) -> str:
        """GGUF's name of the architecture."""
        return str(gguf.MODEL_ARCH_NAMES[self.arch])


def find_family(checkpoint: Checkpoint) -> Family:
    """The family of `architectures[0]`; raises InvalidRequest `unsupported architecture "X"`."""
    architectures = checkpoint.config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise InvalidRequest("unknown architecture", field="files")
    family = FAMILIES.get(str(architectures[0]))
    if family is None:
        raise InvalidRequest(f'unsupported architecture "{architectures[0]}"', field="files")
    return family


def _rope(config: Config) -> dict[str, Any]:
    """Rotary parameters; transformers 5 nests them under `rope_parameters`, per kind of attention."""
    nested: Config = config.get("rope_parameters") or {}
    nested = nested.get("full_attention", nested)
    scaling: Config = config.get("rope_scaling") or {}
    merged: dict[str, Any] = {"rope_theta": config.get("rope_theta"), **scaling, **nested}
    if "type" in merged:
        merged.setdefault("rope_type", merged["type"])
    return {key: value for key, value in merged.items() if value is not None}


def _decoder(checkpoint: Checkpoint, config: Config) -> Metadata:
    """Metadata that all decoder families share."""
    heads = first_of(config, "num_attention_heads")
    data: Metadata = {
        "context_length": first_of(config, "max_position_embeddings", default=131072),
        "embedding_length": first_of(config, "hidden_size"),
        "block_count": first_of(config, "num_hidden_layers"),
        "feed_forward_length": first_of(config, "intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": first_of(config, "num_key_value_heads", default=heads),
        "attention.layer_norm_rms_epsilon": float(first_of(config, "rms_norm_eps", default=1e-6)),
        "vocab_size": first_of(config, "vocab_size"),
    }
    rope = _rope(config)
    if "rope_theta" in rope:
        data["rope.freq_base"] = float(rope["rope_theta"])
    if rope.get("rope_type") in {"linear", "yarn"}:
        data["rope.scaling.type"] = rope["rope_type"]
        data["rope.scaling.factor"] = float(rope["factor"])
        if "original_max_position_embeddings" in rope:
            data["rope.scaling.original_context_length"] = int(rope["original_max_position_embeddings"])
    if config.get("head_dim"):
        data["attention.key_length"] = data["attention.value_length"] = config["head_dim"]
    return data


def _llama(checkpoint: Checkpoint, config: Config) -> Metadata:
    data = _decoder(checkpoint, config)
    data["rope.dimension_count"] = head_dim(config)
    if config.get("sliding_window") and config.get("model_type") == "mistral":
        data["attention.sliding_window"] = config["sliding_window"]
    return data


def head_dim(config: Config) -> int:
    """Width of one attention head."""
    return int(config.get("head_dim") or first_of(config, "hidden_size") // first_of(config, "num_attention_heads"))


def interleave_rotary(values: Array, heads: int) -> Array:
    """Rows of a rotary projection, from half-split order (transformers) to interleaved order (GGUF llama)."""
    rows = values.shape[0]
    split = values.reshape(heads, 2, rows // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def _llama_change(name: str, values: Array, config: Config) -> Array:
    heads = int(first_of(config, "num_attention_heads"))
    if ".k_proj." in name:
        heads = int(first_of(config, "num_key_value_heads", default=heads))
    return interleave_rotary(values, heads)


def _llama3_factors(config: Config) -> dict[str, Array]:
    """Llama 3.1's stretched rotary frequencies, as one factor per pair of dimensions."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return {}
    dim, base = head_dim(config), float(rope.get("rope_theta", 10000.0))
    waves = 2 * math.pi * base ** (np.arange(0, dim, 2, dtype=np.float64) / dim)
    factor = float(rope.get("factor", 8.0))
    low, high = float(rope.get("low_freq_factor", 1.0)), float(rope.get("high_freq_factor", 4.0))
    context = float(rope.get("original_max_position_embeddings", 8192))
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    factors = 1.0 / ((1.0 - smooth) / factor + smooth)
    return {"rope_freqs.weight": factors.astype(np.float32)}


def _gemma2(checkpoint: Checkpoint, config: Config) -> Metadata:
    data = _decoder(checkpoint, config)
    data["attention.key_length"] = data["attention.value_length"] = int(first_of(config, "head_dim", default=256))
    for key, name in (("attn_logit_softcapping", "attn_logit_softcapping"), ("final_logit_softcapping",) * 2):
        if config.get(name):
            data[key] = float(config[name])
    if config.get("sliding_window"):
        data["attention.sliding_window"] = config["sliding_window"]
    return data


def _gemma3(checkpoint: Checkpoint, config: Config) -> Metadata:
    filled = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "rope_theta": 1_000_000.0, **config}
    filled.setdefault("rms_norm_eps", 1e-6)
    data = _gemma2(checkpoint, filled)
    if config.get("sliding_window_pattern") == 1:
        data.pop("attention.sliding_window", None)
    return data


def _add_one(_name: str, values: Array, _config: Config) -> Array:
    return np.asarray(values, np.float32) + np.float32(1.0)


def _phi3(checkpoint: Checkpoint, config: Config) -> Metadata:
    data = _decoder(checkpoint, config)
    rope = _rope(config)
    partial = float(rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0)
    data["rope.dimension_count"] = int(partial * head_dim(config))
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    original = int(original or data["context_length"])
    data["rope.scaling.original_context_length"] = original
    data["attention.sliding_window"] = config.get("sliding_window") or 0
    if rope.get("long_factor"):
        scale = data["context_length"] / original
        data["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    return data


def _phi3_factors(config: Config) -> dict[str, Array]:
    rope = _rope(config)
    names = {"rope_factors_long.weight": "long_factor", "rope_factors_short.weight": "short_factor"}
    return {key: np.asarray(rope[name], np.float32) for key, name in names.items() if rope.get(name)}


def _pooling(checkpoint: Checkpoint) -> Metadata:
    """sentence-transformers' pooling and normalising modules. Raises InvalidRequest when modules.json is absent."""
    modules = checkpoint.json_value("modules.json")
    if not isinstance(modules, list):
        raise InvalidRequest(
            "modules.json is missing: an embedding model needs it to say how tokens are pooled", field="files"
        )
    kinds = {str(module.get("type", "")).rsplit(".", 1)[-1]: str(module.get("path", "")) for module in modules}
    pooling = 0
    if "Pooling" in kinds:
        modes = checkpoint.json(f"{kinds['Pooling']}/config.json".lstrip("/"))
        if not modes:
            raise InvalidRequest(f"{kinds['Pooling']}/config.json is missing", field="files")
        ordered = (("pooling_mode_mean_tokens", 1), ("pooling_mode_cls_token", 2), ("pooling_mode_lasttoken", 3))
        pooling = next((number for name, number in ordered if modes.get(name)), 0)
    return {"pooling_type": pooling, "normalize_embeddings": "Normalize" in kinds, "attention.causal": False}


def _bert(checkpoint: Checkpoint, config: Config) -> Metadata:
    return {
        "context_length": first_of(config, "max_position_embeddings", "n_ctx"),
        "embedding_length": first_of(config, "hidden_size", "n_embd"),
        "block_count": first_of(config, "num_hidden_layers", "n_layers", "n_layer"),
        "feed_forward_length": first_of(config, "intermediate_size", "n_inner"),
        "attention.head_count": first_of(config, "num_attention_heads", "n_head"),
        "attention.layer_norm_epsilon": float(first_of(config, "layer_norm_eps", "layer_norm_epsilon", default=1e-12)),
        **_pooling(checkpoint),
    }


def _nomic(checkpoint: Checkpoint, config: Config) -> Metadata:
    trained = first_of(config, "max_trained_positions", default=2048)
    return {
        **_bert(checkpoint, {**config, "max_position_embeddings": min(first_of(config, "n_positions"), trained)}),
        "rope.freq_base": float(first_of(config, "rotary_emb_base", default=10000.0)),
    }


def _is_rotary(name: str) -> bool:
    return ".q_proj." in name or ".k_proj." in name


def _is_norm(name: str) -> bool:
    return name.endswith("norm.weight")


_ARCH = gguf.MODEL_ARCH
_LLAMA = Family(_ARCH.LLAMA, _llama, _llama_change, _is_rotary, more_tensors=_llama3_factors)
_GEMMA = {"change": _add_one, "changes": _is_norm, "drops": ("lm_head.weight",), "prefixes": ("language_model.",)}
_BERT_DROPS = ("embeddings.position_ids", "pooler.", "cls.")

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": Family(_ARCH.QWEN2, _decoder),
    "Qwen3ForCausalLM": Family(_ARCH.QWEN3, _decoder),
    "GemmaForCausalLM": Family(_ARCH.GEMMA, _gemma2, **_GEMMA),  # type: ignore[arg-type]
    "Gemma2ForCausalLM": Family(_ARCH.GEMMA2, _gemma2, **_GEMMA),  # type: ignore[arg-type]
    "Gemma3ForCausalLM": Family(_ARCH.GEMMA3, _gemma3, **_GEMMA),  # type: ignore[arg-type]
    "Phi3ForCausalLM": Family(_ARCH.PHI3, _phi3, more_tensors=_phi3_factors),
    "BertModel": Family(_ARCH.BERT, _bert, drops=_BERT_DROPS, prefixes=("bert.",), embedding=True),
    "NomicBertModel": Family(_ARCH.NOMIC_BERT, _nomic, drops=_BERT_DROPS, prefixes=("bert.",), embedding=True),
}


def config_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The config that a family reads."""
    return text_config(checkpoint.config)
