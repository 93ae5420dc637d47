"""gemma4 of all sizes. Source: ollama llama/compat/llama-ollama-compat.cpp handle_gemma4, 2026-08."""

from __future__ import annotations

import re

from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family, has_tensor
from corral.translate.recipes import interleaved
from corral.translate.view import MEDIA_TENSORS, View

_GATE = re.compile(r"(blk\.\d+\.)ffn_gate_exps\.weight")
_SIDECARS = ("ffn_gate_exps.scale", "ffn_gate_exps.input_scale", "ffn_up_exps.scale", "ffn_up_exps.input_scale")
_MODEL = "tokenizer.ggml.model"


def _recognizes(header: GGUFHeader) -> bool:
    return (
        has_tensor(header, *MEDIA_TENSORS)
        or header.metadata.get(_MODEL) == "llama"
        or any(tensor.name.endswith(".per_expert_scale") for tensor in header.tensors)
    )


def _text(view: View) -> None:
    if view.header.metadata.get(_MODEL) == "llama":
        view.put(_MODEL, ValueType.STRING, "gemma4")  # the merges are there; as SPM its marks would be cut to pieces
    view.text_only()
    view.rename_tensors({".ffn_gate_inp.per_expert_scale": ".ffn_down_exps.scale"})
    joined = [_join_experts(view, found[1]) for info in view.header.tensors if (found := _GATE.fullmatch(info.name))]
    view.remove(name for names in joined for name in names)


def _join_experts(view: View, block: str) -> tuple[str, ...]:
    """One matrix for gate and up, expert by expert, unless both have scales of their own; what it replaces."""
    gate, up = view.need(f"{block}ffn_gate_exps.weight"), view.source(f"{block}ffn_up_exps.weight")
    apart = up is None or (gate.type_name, gate.shape) != (up.type_name, up.shape)
    if up is None or apart or any(view.source(block + name) for name in _SIDECARS):
        return ()  # the engine takes them apart too
    view.add(interleaved(f"{block}ffn_gate_up_exps.weight", [gate, up]))
    return gate.name, up.name


FAMILY = Family("gemma4", ("gemma4",), _recognizes, _text)
