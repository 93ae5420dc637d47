"""glm-4.7-flash (loaded as deepseek2) and glm-ocr (loaded as glm4).

Source: ollama llama/compat/llama-ollama-compat.cpp handle_glm4moelite, handle_glmocr, 2026-08.
"""

from __future__ import annotations

import re

from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family
from corral.translate.recipes import merged
from corral.translate.rope import set_sections
from corral.translate.view import View
from corral.translate.vocabulary import name_ends, set_pre

_GATE = re.compile(r"(blk\.\d+\.)ffn_gate\.weight")
_OCR_TENSORS = {
    ".attn_out.": ".attn_output.",
    ".post_attn_norm.": ".post_attention_norm.",
    ".post_ffn_norm.": ".post_ffw_norm.",
}


def _always(_header: GGUFHeader) -> bool:
    return True


def _flash(view: View) -> None:
    """Attention with latent keys and values (MLA): the file gives sizes a head, the engine wants them absorbed."""
    head = view.integer("glm4moelite.attention.key_length")
    latent = view.integer("glm4moelite.attention.kv_lora_rank")
    turned = view.integer("glm4moelite.rope.dimension_count")
    view.become("deepseek2")
    sizes = {"head_count_kv": 1, "key_length": latent + turned, "value_length": latent}
    for key, value in (sizes | {"key_length_mla": head, "value_length_mla": head}).items():
        view.put(f"deepseek2.attention.{key}", ValueType.UINT32, value)
    for key in ("expert_group_count", "expert_group_used_count"):
        view.default(f"deepseek2.{key}", ValueType.UINT32, 1)
    set_pre(view, "glm4")
    name_ends(view)


def _ocr(view: View) -> None:
    view.become("glm4")
    set_sections(view, "glmocr.rope.mrope_section", "glmocr.rope.dimension_sections")
    view.copy("glmocr.attention.key_length", "glm4.rope.dimension_count")
    set_pre(view, "chatglm-bpe")
    name_ends(view)
    view.rename_tensors(_OCR_TENSORS)
    gates = []
    for info in view.header.tensors:
        if found := _GATE.fullmatch(info.name):
            up = f"{found[1]}ffn_up.weight"
            view.add(merged(up, [info, view.need(up)]))
            gates.append(info.name)
    view.remove(gates)
    view.text_only()


FLASH = Family("glm4moelite", ("glm4moelite",), _always, _flash)
OCR = Family("glmocr", ("glmocr",), _always, _ocr)
