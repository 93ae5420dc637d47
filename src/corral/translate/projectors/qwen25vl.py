"""The eyes of qwen2.5vl: windows of attention with a whole-image block every few.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_qwen25vl_clip, 2026-08.
"""

from __future__ import annotations

from corral.errors import UntranslatableModel
from corral.translate.family import Projector
from corral.translate.projectors.clip import CLIP_MEAN, CLIP_STD, Encoder, begin, has_eyes, need
from corral.translate.view import View

_IMAGE_SIZE = 560  # for the engine's first, empty picture; the files do not say one
_WHOLE_EVERY = 8  # blocks, where a file does not say it
_WHOLE_BLOCKS = "qwen25vl.vision.fullatt_block_indexes"
_TENSORS = {
    "v.merger.ln_q.": "v.post_ln.",
    "v.merger.mlp.": "mm.",
    "v.patch_embd_0.weight": "v.patch_embd.weight",
    "v.patch_embd_1.weight": "v.patch_embd.weight.1",
}


def _plan(view: View) -> None:
    begin(view, "v.", "mm.")
    eyes = Encoder(view, "qwen2.5vl_merger", activation="silu")
    eyes.blocks()
    eyes.integers("embedding_length", "attention.head_count", "patch_size", "spatial_merge_size", "window_size")
    eyes.integer("image_size", default=_IMAGE_SIZE)
    eyes.integer("projection_dim", ".embedding_length")
    up = view.need("v.blk.0.ffn_up.weight")
    eyes.integer("feed_forward_length", default=up.shape[-1] if up.shape else 0)
    eyes.put("n_wa_pattern", _whole_every(view))
    eyes.number("attention.layer_norm_epsilon", default=1e-6)
    eyes.normalization(CLIP_MEAN, CLIP_STD)
    view.rename_tensors(_TENSORS)
    eyes.finish("v.patch_embd.weight", "v.patch_embd.weight.1")
    need(view, "v.patch_embd.weight", "v.patch_embd.weight.1", "v.post_ln.weight")
    need(view, "mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias")


def _whole_every(view: View) -> int:
    """Every how many blocks attention sees the whole image: the first such block says it."""
    blocks = view.array(_WHOLE_BLOCKS)
    first = next(blocks.iterate(), None) if blocks is not None else None
    if first is None:
        return _WHOLE_EVERY
    if not isinstance(first, int) or first < 0:
        raise UntranslatableModel(f"key {_WHOLE_BLOCKS!r}", f"begins with {first}, which is no block")
    return first + 1


PROJECTOR = Projector(_plan, has_eyes)
