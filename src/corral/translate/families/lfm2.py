"""lfm2.5-thinking. Source: ollama llama/compat/llama-ollama-compat.cpp handle_lfm2, 2026-08."""

from __future__ import annotations

from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family, has_tensor
from corral.translate.view import View
from corral.translate.vocabulary import set_pre

_OLD_NORM, _NORM = "output_norm.weight", "token_embd_norm.weight"


def _recognizes(header: GGUFHeader) -> bool:
    names = {tensor.name for tensor in header.tensors}
    return (_OLD_NORM in names and _NORM not in names) or has_tensor(header, "v.", "mm.")


def _text(view: View) -> None:
    view.rename_tensor(_OLD_NORM, _NORM)
    set_pre(view, "lfm2")
    gate = view.source("blk.0.ffn_gate.weight")  # [embedding, feed-forward]; some files say another length
    if gate is not None and len(gate.shape) == 2:
        view.put(f"{view.architecture}.feed_forward_length", ValueType.UINT32, gate.shape[1])
    view.text_only()


FAMILY = Family("lfm2", ("lfm2", "lfm2moe"), _recognizes, _text)
