"""Keys that a config leaves out: what the class takes for them in `transformers`, and what the tensors tell.

Configs are saved without much of what equals the class's defaults. Numbers of heads are read from shapes, which are
true whatever the default. Source: transformers 5.24, the classes' configurations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight

_OUT = re.compile(r"\.(self_attn|mixer)\.o_proj\.weight$")
_KEY = re.compile(r"\.(self_attn|mixer)\.k_proj\.weight$")
_MILLION, _HALF_MILLION = 1_000_000.0, 500_000.0
_QWEN = {"max_position_embeddings": 32768, "num_experts_per_tok": 8}
_QWEN3VL = {"max_position_embeddings": 128000, "rope_theta": _HALF_MILLION, "num_experts_per_tok": 4}
_QWEN35 = {**_QWEN, "linear_conv_kernel_dim": 4}
_MINISTRAL = {
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 262144,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": _MILLION,
        "factor": 16.0,
        "original_max_position_embeddings": 16384,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.1,
    },
}
_GPT_OSS = {
    "rms_norm_eps": 1e-5,
    "sliding_window": 128,
    "num_experts_per_tok": 4,
    "rope_theta": 150_000.0,
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 150_000.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    },
}
_LLAMA4 = {"rms_norm_eps": 1e-5, "rope_theta": _HALF_MILLION, "num_experts_per_tok": 1}
_GEMMA = {"max_position_embeddings": 8192}
_GEMMA3N = {
    "max_position_embeddings": 32768,
    "sliding_window": 512,
    "hidden_size_per_layer_input": 256,
    "num_kv_shared_layers": 15,
    "final_logit_softcapping": 30.0,
}
_GEMMA4 = {"sliding_window": 512, "hidden_size_per_layer_input": 256}
_OLMO = {"rms_norm_eps": 1e-5, "max_position_embeddings": 2048}
_LFM2 = {"norm_eps": 1e-5, "max_position_embeddings": 128000, "rope_theta": _MILLION, "conv_L_cache": 3}
_LATENT = {"num_experts_per_tok": 8, "n_shared_experts": 1, "routed_scaling_factor": 2.5}
_DEEPSEEK = {**_LATENT, "max_position_embeddings": 4096, "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3}
_GLM_LITE = {
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 202752,
    "num_experts_per_tok": 4,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "routed_scaling_factor": 1.8,
    "first_k_dense_replace": 1,
}
_COHERE = {"logit_scale": 0.0625, "rope_theta": _HALF_MILLION}

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "LlamaForCausalLM": {"max_position_embeddings": 2048},
    "MixtralForCausalLM": {"rms_norm_eps": 1e-5, "rope_theta": _MILLION, "num_experts_per_tok": 2},
    "Ministral3ForCausalLM": _MINISTRAL,
    "Qwen2ForCausalLM": _QWEN,
    "Qwen3ForCausalLM": _QWEN,
    "Qwen3MoeForCausalLM": _QWEN,
    "Qwen2_5_VLForConditionalGeneration": {
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": _MILLION,
    },
    "Qwen3VLForConditionalGeneration": _QWEN3VL,
    "Qwen3VLMoeForConditionalGeneration": _QWEN3VL,
    "Qwen3NextForCausalLM": {**_QWEN35, "num_experts_per_tok": 10},
    "Qwen3_5ForConditionalGeneration": _QWEN35,
    "Qwen3_5ForCausalLM": _QWEN35,
    "Qwen3_5MoeForConditionalGeneration": _QWEN35,
    "Qwen3_5MoeForCausalLM": _QWEN35,
    "GemmaForCausalLM": _GEMMA,
    "Gemma2ForCausalLM": {**_GEMMA, "sliding_window": 4096},
    "Gemma3nForConditionalGeneration": _GEMMA3N,
    "Gemma3nForCausalLM": _GEMMA3N,
    "Gemma4ForConditionalGeneration": _GEMMA4,
    "Gemma4ForCausalLM": _GEMMA4,
    "GptOssForCausalLM": _GPT_OSS,
    "Llama4ForConditionalGeneration": _LLAMA4,
    "Llama4ForCausalLM": _LLAMA4,
    "Olmo2ForCausalLM": _OLMO,
    "Olmo3ForCausalLM": {**_OLMO, "sliding_window": 4096, "rope_theta": _HALF_MILLION},
    "Lfm2ForCausalLM": _LFM2,
    "Lfm2VlForConditionalGeneration": _LFM2,
    "Lfm2MoeForCausalLM": {**_LFM2, "num_experts_per_tok": 4, "num_dense_layers": 2},
    "DeepseekV3ForCausalLM": _DEEPSEEK,
    "Glm4MoeLiteForCausalLM": _GLM_LITE,
    "Glm4ForCausalLM": {"rms_norm_eps": 1.5625e-07},
    "CohereForCausalLM": _COHERE,
    "Cohere2ForCausalLM": {"logit_scale": 0.0625, "sliding_window": 4096},
    "Phi3ForCausalLM": {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096},
}
_ROPE = ("rope_parameters", "rope_scaling", "rope_theta")


def completed(config: HubConfig, class_name: str, weights: Mapping[str, Weight]) -> HubConfig:
    """The config of a language model with the keys that it leaves out. A key that is null stays null."""
    values = dict(config.values)
    defaults = dict(_DEFAULTS.get(class_name, {}))
    if any(values.get(name) is not None for name in _ROPE):
        defaults.pop("rope_parameters", None)
    if "norm_eps" in values or "rms_norm_eps" in values:
        defaults.pop("norm_eps", None)
    return config.replaced({**defaults, **values, **_heads({**defaults, **values}, weights)})


def _heads(values: Mapping[str, Any], weights: Mapping[str, Weight]) -> dict[str, Any]:
    """A head's width, where it is not the usual part of a state, and the number of key heads."""
    heads, hidden = values.get("num_attention_heads"), values.get("hidden_size")
    if not _is_count(heads) or not _is_count(hidden) or values.get("kv_lora_rank") is not None:
        return {}
    found: dict[str, Any] = {}
    usual = hidden // heads
    width: Any = values.get("head_dim")
    if width is None:
        told = _only(weights, _OUT, axis=1)
        width = told // heads if told and told % heads == 0 else usual
        if width != usual:
            found["head_dim"] = width
    keys = _only(weights, _KEY, axis=0)
    if values.get("num_key_value_heads") is None and keys and _is_count(width) and keys % width == 0:
        found["num_key_value_heads"] = keys // width
    return found


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and value > 0


def _only(weights: Mapping[str, Weight], pattern: re.Pattern[str], axis: int) -> int | None:
    """The length along an axis that all matrices of a kind share."""
    lengths = {w.shape[axis] for name, w in weights.items() if pattern.search(name) and len(w.shape) == 2}
    return lengths.pop() if len(lengths) == 1 else None
