"""qwen2.5-vl and qwen3-vl.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_qwen25vl, handle_qwen3vl, 2026-08.
"""

from __future__ import annotations

from corral.errors import UntranslatableModel
from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family, has_tensor
from corral.translate.rope import set_sections
from corral.translate.view import View

_QWEN3_SECTIONS = [24, 20, 20, 0]  # of every qwen3-vl so far; the files do not say it


def _always(_header: GGUFHeader) -> bool:
    return True


def _qwen25(view: View) -> None:
    view.become("qwen2vl")
    if not set_sections(view, "qwen25vl.rope.mrope_section", "qwen25vl.rope.dimension_sections"):
        raise UntranslatableModel("key 'qwen25vl.rope.mrope_section'", "is not there")
    view.text_only()


def _is_qwen3(header: GGUFHeader) -> bool:
    return header.get("rope.dimension_sections") is None or has_tensor(header, "v.", "mm.")


def _qwen3(view: View) -> None:
    name = view.architecture
    if not set_sections(view, f"{name}.rope.dimension_sections", f"{name}.rope.mrope_section"):
        view.put_array(f"{name}.rope.dimension_sections", ValueType.INT32, _QWEN3_SECTIONS)
    deepstack = view.array(f"{name}.vision.deepstack_visual_indexes")
    view.default(f"{name}.n_deepstack_layers", ValueType.UINT32, deepstack.length if deepstack else 0)
    experts = view.source("blk.0.ffn_gate_exps.weight")  # [embedding, feed-forward, experts]
    if experts is not None and len(experts.shape) == 3:
        view.default(f"{name}.expert_feed_forward_length", ValueType.UINT32, experts.shape[1])
    view.text_only()


QWEN25 = Family("qwen25vl", ("qwen25vl",), _always, _qwen25)
QWEN3 = Family("qwen3vl", ("qwen3vl",), _is_qwen3, _qwen3)
QWEN3_EXPERTS = Family("qwen3vlmoe", ("qwen3vlmoe",), _is_qwen3, _qwen3)
