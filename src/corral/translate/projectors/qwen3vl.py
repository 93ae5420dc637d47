"""The eyes of qwen3-vl and of qwen3.5: one kernel for two frames, attention in three parts, deepstack layers.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_qwen3vl_clip, handle_qwen35_like_clip, 2026-08. There the
merged attention of qwen3-vl is float32 always; here only where a block's parts differ in type.
"""

from __future__ import annotations

import math

from corral.errors import UntranslatableModel
from corral.translate.family import Projector
from corral.translate.projectors.clip import HALF, Encoder, begin, has_eyes, need
from corral.translate.recipes import merged, picked, widened
from corral.translate.view import View

_MIN_PIXELS, _MAX_PIXELS = 65_536, 16_777_216  # of an image, where a file does not say it
_FRAMES = ("v.patch_embd.weight", "v.patch_embd.weight.1")
_TENSORS = {
    "v.merger.norm.": "v.post_ln.",
    "v.merger.linear_fc1.": "mm.0.",
    "v.merger.linear_fc2.": "mm.2.",
    "v.patch_embed.": "v.patch_embd.",
    "v.pos_embed.": "v.position_embd.",
    ".norm1.": ".ln1.",
    ".norm2.": ".ln2.",
    ".mlp.linear_fc1.": ".ffn_up.",
    ".mlp.linear_fc2.": ".ffn_down.",
    ".linear_fc1.": ".fc1.",
    ".linear_fc2.": ".fc2.",
}


def _plan_vl(view: View) -> None:
    eyes = _add_eyes(view)
    eyes.integer("image_min_pixels", "shortest_edge", default=_MIN_PIXELS)
    eyes.integer("image_max_pixels", "longest_edge", default=_MAX_PIXELS)


def _plan_35(view: View) -> None:
    _add_eyes(view)  # the engine's own limits of an image's size, as Ollama has them


def _add_eyes(view: View) -> Encoder:
    begin(view, "v.", "mm.")
    eyes = Encoder(view, "qwen3vl_merger", activation="gelu")
    blocks = eyes.blocks()
    eyes.integers("embedding_length", "attention.head_count", "spatial_merge_size")
    patch = eyes.integer("patch_size")
    eyes.integer("projection_dim", ".embedding_length")
    up = view.need("v.blk.0.mlp.linear_fc1.weight")
    eyes.integer("feed_forward_length", default=up.shape[-1] if up.shape else 0)
    eyes.put("image_size", patch * _positions_per_side(view))
    eyes.number("attention.layer_norm_epsilon", default=1e-6)
    eyes.normalization(HALF, HALF)
    _split_frames(view)
    _merge_attention(view, blocks)
    view.rename_tensors({**_deepstack_names(view, blocks), **_TENSORS})
    eyes.finish(*_FRAMES, "v.position_embd.weight")
    need(view, "v.patch_embd.bias", "v.position_embd.weight", "v.post_ln.weight")
    need(view, "mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias")
    return eyes


def _positions_per_side(view: View) -> int:
    info = view.need("v.pos_embed.weight")
    return math.isqrt(info.shape[-1]) if info.shape else 0


def _split_frames(view: View) -> None:
    """The kernel over two frames, [width, height, 2, channels x embedding], as two kernels over one."""
    info = view.need("v.patch_embed.weight")
    key = f"{view.header.architecture}.vision.num_channels"
    channels = view.integer(key) if key in view.header.metadata else 3
    if len(info.shape) != 4 or info.shape[2] != len(_FRAMES) or channels < 1 or info.shape[3] % channels:
        why = f"shape {list(info.shape)} is no kernel over two frames of {channels} channels"
        raise UntranslatableModel(f"tensor {info.name!r}", why)
    width, height, frames, packed = info.shape
    shape = (width, height, channels, packed // channels)
    view.leave_out(info.name)
    for index, name in enumerate(_FRAMES):
        view.add(widened(picked(info, name, shape, unit=width * height, group=frames, index=index)))


def _merge_attention(view: View, blocks: int) -> None:
    for block in range(blocks):
        for leaf in ("weight", "bias"):
            parts = [f"v.blk.{block}.attn_{part}.{leaf}" for part in "qkv"]
            if view.source(parts[0]):
                view.add(merged(f"v.blk.{block}.attn_qkv.{leaf}", [view.need(name) for name in parts]))
                view.leave_out(*parts)
    need(view, *(f"v.blk.{block}.attn_qkv.weight" for block in range(blocks)))


def _deepstack_names(view: View, blocks: int) -> dict[str, str]:
    """The mergers are counted in the file and named after their blocks in the engine."""
    key = f"{view.header.architecture}.vision.deepstack_visual_indexes"
    indexes = view.array(key)
    if indexes is None:
        return {}
    found = indexes.read() if indexes.length <= blocks else []
    if len(found) != indexes.length or not all(isinstance(one, int) and 0 <= one < blocks for one in found):
        raise UntranslatableModel(f"key {key!r}", f"names other blocks than the {blocks} that there are")
    return {f"v.deepstack_merger.{number}.": f"v.deepstack.{block}." for number, block in enumerate(found)}


QWEN3VL = Projector(_plan_vl, has_eyes)
QWEN35 = Projector(_plan_35, has_eyes)
