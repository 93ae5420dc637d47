"""gemma3 (with medgemma, translategemma, functiongemma, rnj-1) and embeddinggemma.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_gemma3, handle_embeddinggemma, convert/convert_gemma3.go,
2026-08. Published files differ by the converter's age: 1b and 270m name the RoPE bases otherwise, 4b and larger lack
what their configurations left to the defaults and carry the vision tower.
"""

from __future__ import annotations

from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family, has_tensor
from corral.translate.view import View
from corral.translate.vocabulary import adds_blank, cut_vocabulary, forbid_blank, has_spare_tokens

_KEYS = {
    "gemma3.rope.global.freq_base": "gemma3.rope.freq_base",
    "gemma3.rope.local.freq_base": "gemma3.rope.freq_base_swa",
}
_DEFAULTS = {
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 1_000_000.0,
    "rope.freq_base_swa": 10_000.0,
}
_SCALED_CONTEXT = 131_072  # models of this window were stretched from 16k by linear scaling; smaller ones were not
_SCALE = 8.0
_DENSE = {"dense.0.weight": "dense_2.weight", "dense.1.weight": "dense_3.weight", "norm.weight": "output_norm.weight"}


def _is_embedding(header: GGUFHeader) -> bool:
    return has_tensor(header, "dense.0.weight")


def _is_chat(header: GGUFHeader) -> bool:
    otherwise_named = any(key in header.metadata for key in _KEYS) or has_tensor(header, "v.", "mm.")
    lacks_epsilon = "gemma3.attention.layer_norm_rms_epsilon" not in header.metadata
    return otherwise_named or lacks_epsilon or adds_blank(header) or has_spare_tokens(header, "token_embd.weight")


def _defaults(view: View) -> None:
    for key, value in _DEFAULTS.items():
        view.default(f"{view.architecture}.{key}", ValueType.FLOAT32, value)


def _tokens(view: View) -> None:
    embedding = view.need("token_embd.weight")
    cut_vocabulary(view, embedding.shape[-1] if embedding.shape else 0)
    forbid_blank(view)


def _chat(view: View) -> None:
    view.rename(_KEYS)
    _defaults(view)
    if view.header.context_length >= _SCALED_CONTEXT:
        view.default("gemma3.rope.scaling.type", ValueType.STRING, "linear")
        view.default("gemma3.rope.scaling.factor", ValueType.FLOAT32, _SCALE)
    _tokens(view)
    view.text_only()


def _embedding(view: View) -> None:
    view.rename(_KEYS)
    view.become("gemma-embedding")
    _defaults(view)
    for old, new in (("dense.0.weight", "dense_2"), ("dense.1.weight", "dense_3")):
        inputs, outputs = (*view.need(old).shape, 0, 0)[:2]
        view.put(f"gemma-embedding.{new}_feat_in", ValueType.UINT32, inputs)
        view.put(f"gemma-embedding.{new}_feat_out", ValueType.UINT32, outputs)
    for old, new in _DENSE.items():
        view.rename_tensor(old, new)
    _tokens(view)


EMBEDDING = Family("embeddinggemma", ("gemma3",), _is_embedding, _embedding)
CHAT = Family("gemma3", ("gemma3",), _is_chat, _chat)
# what `ollama create` writes today is right but for the blank
CREATED_EMBEDDING = Family("gemma-embedding", ("gemma-embedding",), adds_blank, forbid_blank)
