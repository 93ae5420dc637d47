"""gpt-oss and gpt-oss-safeguard.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_gptoss, 2026-08; of the files of the first days,
ml/backend/ggml/ggml.go Load and model/models/gptoss/model.go, 2025-08: their gate and up matrices are one, row by row
in turn, their MXFP4 has the checkpoint's order of nibbles, and their experts' biases are BF16.
"""

from __future__ import annotations

import re

from corral.errors import UntranslatableModel
from corral.gguf import GGUFHeader, TensorInfo
from corral.gguf.types import ValueType
from corral.translate.family import Family
from corral.translate.recipes import picked, repacked, widened
from corral.translate.view import View

_TENSORS = {".attn_out.": ".attn_output.", ".ffn_norm.": ".post_attention_norm."}
_ENDS = {".attn_sinks": ".attn_sinks.weight"}
_GATE_UP = re.compile(r"(blk\.\d+\.)ffn_gate_up_exps\.(weight|bias)")
_LENGTH = "gpt-oss.expert_feed_forward_length"
_FLOAT32 = (".bias", ".attn_sinks.weight")  # the engine adds these to float32


def _recognizes(_header: GGUFHeader) -> bool:
    return True  # llama.cpp writes the name with a hyphen


def _text(view: View) -> None:
    view.become("gpt-oss")
    view.default("gpt-oss.rope.scaling.type", ValueType.STRING, "yarn")
    view.put("tokenizer.ggml.pre", ValueType.STRING, "gpt-4o")  # the files say default, which splits otherwise
    _take_gate_and_up_apart(view)
    view.rename_tensors(_TENSORS)
    view.rename_ends(_ENDS)
    for name, recipe in list(view.tensors.items()):
        view.add(widened(recipe) if name.endswith(_FLOAT32) else repacked(recipe))
    if _LENGTH not in view:
        shape = view.must_have("blk.0.ffn_gate_exps.weight").shape  # embedding, feed-forward, experts
        view.put(_LENGTH, ValueType.UINT32, shape[1] if len(shape) > 1 else 0)


def _take_gate_and_up_apart(view: View) -> None:
    merged = [(info, found) for info in view.header.tensors if (found := _GATE_UP.fullmatch(info.name))]
    view.remove(info.name for info, _ in merged)
    for info, found in merged:
        for index, kind in enumerate(("gate", "up")):
            _add_every_second(view, info, f"{found[1]}ffn_{kind}_exps.{found[2]}", index)


def _add_every_second(view: View, info: TensorInfo, name: str, index: int) -> None:
    is_bias = len(info.shape) == 2  # [rows, experts]; weights are [embedding, rows, experts]
    rows_at = 0 if is_bias else 1
    if len(info.shape) not in (2, 3) or info.shape[rows_at] % 2:
        raise UntranslatableModel(f"tensor {info.name!r}", f"shape {list(info.shape)} is not of gate and up in turn")
    shape = list(info.shape)
    shape[rows_at] //= 2
    view.add(picked(info, name, shape, unit=1 if is_bias else info.shape[0], group=2, index=index))


FAMILY = Family("gptoss", ("gptoss",), _recognizes, _text)
