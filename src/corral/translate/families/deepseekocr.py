"""deepseek-ocr. Source: ollama llama/compat/llama-ollama-compat.cpp handle_deepseekocr, 2026-08."""

from __future__ import annotations

from corral.gguf import GGUFHeader, TensorInfo
from corral.gguf.types import ValueType
from corral.translate.family import Family
from corral.translate.view import View

_EXPERT, _SHARED = ".ffn_down_exps.weight", ".ffn_down_shexp.weight"
_EXPERT_LENGTH = "deepseek2-ocr.expert_feed_forward_length"
_SHARED_COUNT = "deepseek2-ocr.expert_shared_count"


def _always(_header: GGUFHeader) -> bool:
    return True


def _text(view: View) -> None:
    view.become("deepseek2-ocr")
    view.default("deepseek2-ocr.attention.layer_norm_rms_epsilon", ValueType.FLOAT32, 1e-6)
    expert, shared = _first(view, _EXPERT), _first(view, _SHARED)  # the first blocks are dense
    length = expert.shape[0] if expert is not None and expert.shape else 0
    if length:
        view.default(_EXPERT_LENGTH, ValueType.UINT32, length)
    if length and shared is not None and shared.shape:
        view.default(_SHARED_COUNT, ValueType.UINT32, shared.shape[0] // length)
    view.text_only()


def _first(view: View, suffix: str) -> TensorInfo | None:
    return next((info for info in view.header.tensors if info.name.endswith(suffix)), None)


FAMILY = Family("deepseekocr", ("deepseekocr",), _always, _text)
