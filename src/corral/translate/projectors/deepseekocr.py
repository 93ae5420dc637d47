"""The eyes of deepseek-ocr: SAM (`s.`) before CLIP (`v.`) before one layer (`mm.`).

Source: ollama llama/compat/llama-ollama-compat.cpp handle_deepseekocr_clip, 2026-08; which tensors are float32:
llama.cpp conversion/deepseek.py, 2026-10.
"""

from __future__ import annotations

from corral.translate.family import Projector
from corral.translate.projectors.clip import HALF, Encoder, begin, has_eyes, need
from corral.translate.recipes import passed, renamed
from corral.translate.view import View

_WINDOW = 14  # patches on a side, of SAM's local attention; the files do not say it
_TENSORS = {
    ".self_attn.out_proj.": ".attn_out.",
    ".self_attn.qkv_proj.": ".attn_qkv.",
    ".layer_norm1.": ".ln1.",
    ".layer_norm2.": ".ln2.",
    ".mlp.fc1.": ".ffn_up.",
    ".mlp.fc2.": ".ffn_down.",
    "v.pre_layrnorm.": "v.pre_ln.",  # the published name is misspelt
    "mm.layers.": "mm.model.fc.",
    "mm.image_newline": "v.image_newline",
    "mm.view_seperator": "v.view_seperator",
}
_SAM_TENSORS = {
    ".attn.proj.": ".attn.out.",
    ".attn.rel_pos_h": ".attn.pos_h.weight",
    ".attn.rel_pos_w": ".attn.pos_w.weight",
    ".norm1.": ".pre_ln.",
    ".norm2.": ".post_ln.",
}
_FLOAT32 = (
    "v.patch_embd.weight",
    "v.position_embd.weight",
    "v.sam.patch_embd.weight",
    "v.sam.pos_embd.weight",
    ".attn.pos_h.weight",
    ".attn.pos_w.weight",
    *(f"v.sam.neck.{number}.weight" for number in range(4)),
    "v.sam.net_2.weight",
    "v.sam.net_3.weight",
    "v.image_newline",
    "v.view_seperator",
)


def _plan(view: View) -> None:
    begin(view)
    _add_sam(view)
    view.add(*map(passed, view.sources("v.", "mm.")))
    eyes = Encoder(view, "deepseekocr", activation="gelu")
    eyes.blocks()
    eyes.integers("embedding_length", "image_size", "patch_size")
    heads = eyes.integer("attention.head_count", "head_count")
    for key in ("block_count", "embedding_length", "head_count"):
        eyes.integer(f"sam.{key}", f".sam.{key}")
    eyes.put("feed_forward_length", heads * 4)  # as llama.cpp writes it; the engine goes by the tensors
    eyes.integer("projection_dim", ".embedding_length")
    eyes.put("projector.scale_factor", 1)
    eyes.put("window_size", _WINDOW)
    eyes.number("attention.layer_norm_epsilon", default=1e-6)
    eyes.normalization(HALF, HALF)
    view.rename_tensors(_TENSORS)
    eyes.finish(*_FLOAT32)
    need(view, *(name for name in _FLOAT32 if name.startswith("v.sam.")), "v.patch_embd.weight", "v.view_seperator")
    need(view, "v.position_embd.weight", "mm.model.fc.weight", "mm.model.fc.bias")


def _add_sam(view: View) -> None:
    for info in view.sources("s."):
        name = f"v.sam.{info.name.removeprefix('s.')}"
        view.add(renamed(passed(info), "v.sam.pos_embd.weight" if name == "v.sam.position_embd" else name))
    view.rename_tensors(_SAM_TENSORS)


PROJECTOR = Projector(_plan, has_eyes)
