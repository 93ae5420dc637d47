"""Gemma 1 to 3, Gemma 3 with its eyes, EmbeddingGemma with its dense modules.

Norms are kept as their distance from one. Facts: llama.cpp conversion/gemma.py, b11549.
"""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, rope
from corral.convert.families.embedding import modules, pooling
from corral.convert.family import Family, Metadata, add_one, change, drop
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.gemma3 import GEMMA3
from corral.convert.weights import Weight
from corral.errors import InvalidRequest

_GLOBAL_EVERY = 6


def _gemma2(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = decoder(config, checkpoint)
    data["attention.key_length"] = data["attention.value_length"] = config.count("head_dim", default=256)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.has(name):
            data[name] = config.number(name)
    if config.has("sliding_window"):
        data["attention.sliding_window"] = config.integer("sliding_window")
    return data


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
    every = config.count("sliding_window_pattern", "_sliding_window_pattern", default=_GLOBAL_EVERY)
    plan = ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(filled.layers())]
    kinds = config.texts("layer_types", default=plan)
    if "sliding_attention" not in kinds:
        data.pop("attention.sliding_window", None)
    elif kinds != plan or every != _GLOBAL_EVERY:  # the engine knows the usual pattern
        data["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in kinds]
    return data


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


# A separate output head is never Gemma's own: quantizers write a copy of the embedding.
_RULES = (change(r"norm\.weight$", add_one), drop(r"^lm_head\.weight$"))
_GEMMA3 = Family(gguf.MODEL_ARCH.GEMMA3, _gemma3, _RULES, projector=GEMMA3)

FAMILIES = {
    "GemmaForCausalLM": Family(gguf.MODEL_ARCH.GEMMA, _gemma2, _RULES),
    "Gemma2ForCausalLM": Family(gguf.MODEL_ARCH.GEMMA2, _gemma2, _RULES),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "Gemma3TextModel": Family(
        gguf.MODEL_ARCH.GEMMA_EMBEDDING, _embedding_gemma, _RULES, more_tensors=_dense, embedding=True
    ),
}
