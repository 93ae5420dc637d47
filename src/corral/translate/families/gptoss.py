"""gpt-oss and gpt-oss-safeguard. Source: ollama llama/compat/llama-ollama-compat.cpp handle_gptoss, 2026-08."""

from __future__ import annotations

from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family
from corral.translate.view import View

_TENSORS = {".attn_out.": ".attn_output.", ".ffn_norm.": ".post_attention_norm."}
_ENDS = {".attn_sinks": ".attn_sinks.weight"}


def _recognizes(_header: GGUFHeader) -> bool:
    return True  # llama.cpp writes the name with a hyphen


def _text(view: View) -> None:
    view.become("gpt-oss")
    view.default("gpt-oss.rope.scaling.type", ValueType.STRING, "yarn")
    if "gpt-oss.expert_feed_forward_length" not in view:
        experts = view.need("blk.0.ffn_gate_exps.weight")  # [embedding, feed-forward, experts]
        view.put(
            "gpt-oss.expert_feed_forward_length", ValueType.UINT32, experts.shape[1] if len(experts.shape) > 1 else 0
        )
    view.put("tokenizer.ggml.pre", ValueType.STRING, "gpt-4o")  # the files say default, which splits otherwise
    view.rename_tensors(_TENSORS)
    view.rename_ends(_ENDS)


FAMILY = Family("gptoss", ("gptoss",), _recognizes, _text)
