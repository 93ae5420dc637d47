"""The eyes of gemma3, medgemma, translategemma: SigLIP.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_gemma3_clip, 2026-08.
"""

from __future__ import annotations

from corral.translate.family import Projector
from corral.translate.projectors.clip import HALF, Encoder, begin, has_eyes, need
from corral.translate.view import View

_TENSORS = {
    "v.patch_embedding.": "v.patch_embd.",
    "v.position_embedding.": "v.position_embd.",
    "v.post_layernorm.": "v.post_ln.",
    ".layer_norm1.": ".ln1.",
    ".layer_norm2.": ".ln2.",
    ".attn_output.": ".attn_out.",
    # The engine takes a "down" whose rows are as wide as the encoder for the "up" of old files, whichever is right.
    ".mlp.fc1.": ".ffn_down.",
    ".mlp.fc2.": ".ffn_up.",
    "mm.mm_input_projection.": "mm.input_projection.",
    "mm.mm_soft_emb_norm.": "mm.soft_emb_norm.",
}


def _plan(view: View) -> None:
    begin(view, "v.", "mm.")
    eyes = Encoder(view, "gemma3", activation="gelu")
    eyes.blocks()
    eyes.integers("embedding_length", "feed_forward_length", "attention.head_count", "image_size", "patch_size")
    eyes.integer("projection_dim", ".embedding_length")
    eyes.number("attention.layer_norm_epsilon", default=1e-6)
    eyes.normalization(HALF, HALF)
    view.rename_tensors(_TENSORS)
    eyes.finish("v.patch_embd.weight", "v.position_embd.weight")
    need(view, "v.patch_embd.weight", "v.position_embd.weight", "mm.input_projection.weight", "mm.soft_emb_norm.weight")


PROJECTOR = Projector(_plan, has_eyes)
