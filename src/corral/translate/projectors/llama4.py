"""The eyes of llama4. Source: ollama llama/compat/llama-ollama-compat.cpp handle_llama4_clip, 2026-08."""

from __future__ import annotations

from corral.errors import UntranslatableModel
from corral.translate.family import Projector
from corral.translate.projectors.clip import HALF, Encoder, begin, has_eyes, need
from corral.translate.view import View

_SHUFFLE = "llama4.vision.pixel_shuffle_ratio"
_TENSORS = {
    "v.vision_adapter.mlp.fc1.": "mm.model.mlp.1.",
    "v.vision_adapter.mlp.fc2.": "mm.model.mlp.2.",
    "mm.linear_1.": "mm.model.fc.",
    "v.class_embedding": "v.class_embd",
    "v.positional_embedding_vlm": "v.position_embd.weight",
    "v.patch_embedding.": "v.patch_embd.",
    "v.layernorm_pre.": "v.pre_ln.",
    "v.layernorm_post.": "v.post_ln.",
    ".attn_output.": ".attn_out.",
    ".attn_norm.": ".ln1.",
    ".ffn_norm.": ".ln2.",
    ".mlp.fc1.": ".ffn_up.",
    ".mlp.fc2.": ".ffn_down.",
}


def _plan(view: View) -> None:
    begin(view, "v.", "mm.")
    eyes = Encoder(view, "llama4", activation="gelu")
    eyes.blocks()
    eyes.integers("embedding_length", "feed_forward_length", "attention.head_count", "image_size", "patch_size")
    eyes.integer("projection_dim", ".embedding_length")
    eyes.put("projector.scale_factor", _shuffled_per_side(view))
    eyes.number("attention.layer_norm_epsilon", "layer_norm_epsilon", default=1e-5)
    eyes.normalization(HALF, HALF)
    view.rename_tensors(_TENSORS)
    eyes.finish("v.position_embd.weight")
    need(view, "v.class_embd", "v.patch_embd.weight", "v.position_embd.weight")
    need(view, "mm.model.fc.weight", "mm.model.mlp.1.weight", "mm.model.mlp.2.weight")


def _shuffled_per_side(view: View) -> int:
    """Patches on a side that become one token, of which the file says the inverse."""
    ratio = view.header.metadata.get(_SHUFFLE, 0.5)
    if not isinstance(ratio, float) or not 0.001 < ratio <= 1:
        raise UntranslatableModel(f"key {_SHUFFLE!r}", f"is {ratio}")
    return round(1 / ratio)


PROJECTOR = Projector(_plan, has_eyes)
