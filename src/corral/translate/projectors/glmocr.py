"""The eyes of glm-ocr. Source: ollama llama/compat/llama-ollama-compat.cpp handle_glmocr_clip, 2026-08."""

from __future__ import annotations

from corral.translate.family import Projector
from corral.translate.projectors.clip import CLIP_MEAN, CLIP_STD, Encoder, begin, has_eyes, need
from corral.translate.view import View

_TENSORS = {"v.patch_embd_0.weight": "v.patch_embd.weight", "v.patch_embd_1.weight": "v.patch_embd.weight.1"}


def _plan(view: View) -> None:
    begin(view, "v.", "mm.")
    eyes = Encoder(view, "glm4v", activation="silu")
    eyes.blocks()
    eyes.integers("embedding_length", "attention.head_count", "image_size", "patch_size", "spatial_merge_size")
    eyes.integer("feed_forward_length", "intermediate_size")
    eyes.integer("projection_dim", "out_hidden_size")
    eyes.number("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", default=1e-5)
    eyes.normalization(CLIP_MEAN, CLIP_STD)
    view.rename_tensors(_TENSORS)
    eyes.finish("v.patch_embd.weight", "v.patch_embd.weight.1")
    need(view, "v.patch_embd.weight", "v.patch_embd.weight.1", "mm.patch_merger.weight", "mm.patch_merger.bias")
    need(view, "mm.model.fc.weight", "mm.up.weight", "mm.gate.weight", "mm.down.weight", "mm.post_norm.weight")


PROJECTOR = Projector(_plan, has_eyes)
