"""Gemma 1 to 3, Gemma 3 with its eyes, EmbeddingGemma with its dense modules.

Norms are kept as their distance from one. Facts: llama.cpp conversion/gemma.py, b11549.
"""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, rope, window_pattern
from corral.convert.families.embedding import modules, pooling
from corral.convert.family import Family, Head, Metadata, add_one, change, drop
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.gemma3 import GEMMA3
from corral.convert.weights import Weight
from corral.errors import InvalidRequest

_GLOBAL_EVERY = 6
_GEMMA2_GLOBAL_EVERY = 2


def _gemma2(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = decoder(config, checkpoint)
    data["attention.key_length"] = data["attention.value_length"] = config.count("head_dim", default=256)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.has(name):
            data[name] = config.number(name)
    if config.has("sliding_window"):
        data["attention.sliding_window"] = config.integer("sliding_window")
    return data


def _windowed(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    return _gemma2(config, checkpoint) | window_pattern(config, _GEMMA2_GLOBAL_EVERY)


def _gemma3(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    filled = config.with_defaults(
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        vocab_size=262208,
        sliding_window=4096,
        rope_theta=1_000_000.0,
    )
    data = _gemma2(filled, checkpoint)
    local = rope(config, "sliding_attention")
    if config.section("rope_parameters").has("sliding_attention") and local.has("rope_theta"):
        data["rope.freq_base_swa"] = local.number("rope_theta")
    elif config.has("rope_local_base_freq"):
        data["rope.freq_base_swa"] = config.number("rope_local_base_freq")
    windows = window_pattern(filled, _GLOBAL_EVERY)
    if list(windows.values()) == [[False] * filled.layers()]:
        data.pop("attention.sliding_window", None)
        return data
    return data | windows


def _embedding_gemma(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = _gemma3(config, checkpoint) | pooling(checkpoint)
    data.pop("final_logit_softcapping", None)
    for name, weight in _dense(config, checkpoint).items():
        stem = name.removesuffix(".weight")
        data[f"{stem}_feat_out"], data[f"{stem}_feat_in"] = weight.shape
    return data


def _dense(config: HubConfig, checkpoint: Checkpoint) -> dict[str, Weight]:
    """The two linear modules after the pooling, under the names that the engine has for them."""
    paths = [path for kind, path in modules(checkpoint) if kind == "Dense"]
    if len(paths) not in {0, 2}:
        raise InvalidRequest(f"modules.json names {len(paths)} Dense modules, the engine knows two", field="files")
    found = {}
    for number, path in enumerate(paths, 2):
        tensor = checkpoint.module_tensors(path).get("linear.weight")
        if tensor is None:
            raise InvalidRequest(f"{path}/model.safetensors: tensor 'linear.weight' is missing", field="files")
        found[f"dense_{number}.weight"] = tensor.weight().need_dims(2)
    return found


_RULES = (change(r"norm\.weight$", add_one),)
_GEMMA3 = Family(gguf.MODEL_ARCH.GEMMA3, _gemma3, _RULES, projector=GEMMA3, head=Head.USUALLY_TIED)

FAMILIES = {
    "GemmaForCausalLM": Family(gguf.MODEL_ARCH.GEMMA, _gemma2, _RULES, head=Head.ALWAYS_TIED),
    "Gemma2ForCausalLM": Family(gguf.MODEL_ARCH.GEMMA2, _windowed, _RULES, head=Head.ALWAYS_TIED),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "Gemma3TextModel": Family(
        gguf.MODEL_ARCH.GEMMA_EMBEDDING,
        _embedding_gemma,
        (*_RULES, drop(r"^lm_head\.weight$")),
        more_tensors=_dense,
        embedding=True,
    ),
}
