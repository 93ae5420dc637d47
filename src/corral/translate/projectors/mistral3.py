"""The eyes of mistral-small 3.1 and 3.2, ministral-3, devstral-small-2: Pixtral with a patch merger.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_mistral3_clip, 2026-08. There the row that ends a line of
patches is zeros; here it is what the model was trained with, the embedding of its token [IMG_BREAK].
"""

from __future__ import annotations

import numpy as np

from corral.errors import UntranslatableModel
from corral.translate.family import Projector
from corral.translate.projectors.clip import CLIP_MEAN, CLIP_STD, Encoder, begin, has_eyes, need
from corral.translate.recipes import constant, cut, permuted, reshaped, widened
from corral.translate.view import View

_LINE_BREAK = "[IMG_BREAK]"
_TENSORS = {
    "v.patch_conv.": "v.patch_embd.",
    "v.encoder_norm.": "v.pre_ln.",
    ".attn_output.": ".attn_out.",
    ".attn_norm.": ".ln1.",
    ".ffn_norm.": ".ln2.",
    "mm.linear_1.": "mm.1.",
    "mm.linear_2.": "mm.2.",
    "mm.patch_merger.merging_layer.": "mm.patch_merger.",
    "mm.norm.": "mm.input_norm.",
}


def _plan(view: View) -> None:
    begin(view, "v.", "mm.")
    eyes = Encoder(view, "pixtral", activation="silu")
    blocks = eyes.blocks()
    heads = eyes.integer("attention.head_count")
    eyes.integers("embedding_length", "feed_forward_length", "image_size", "patch_size")
    eyes.integer("spatial_merge_size", ".spatial_merge_size", default=2)
    eyes.integer("projection_dim", ".embedding_length")
    eyes.number("attention.layer_norm_epsilon", default=1e-5)
    eyes.normalization(CLIP_MEAN, CLIP_STD)
    _permute_heads(view, blocks, heads)
    view.rename_tensors(_TENSORS)
    _add_line_break(view)
    eyes.finish("v.patch_embd.weight")
    need(view, "v.patch_embd.weight", "mm.1.weight", "mm.2.weight")


def _permute_heads(view: View, blocks: int, heads: int) -> None:
    """The files have the rows of q and k as published, halves apart; the engine turns pairs of neighbours."""
    for block in range(blocks):
        for part in "qk":
            info = view.need(f"v.blk.{block}.attn_{part}.weight")
            half, odd = divmod(info.shape[-1] // heads if info.shape else 0, 2)
            if odd or half * 2 * heads != info.shape[-1]:
                why = f"shape {list(info.shape)} does not divide into {heads} heads of pairs"
                raise UntranslatableModel(f"tensor {info.name!r}", why)
            view.add(permuted(info, [row for first in range(half) for row in (first, first + half)]))


def _add_line_break(view: View) -> None:
    embeddings = view.need("token_embd.weight")
    name = "v.token_embd.img_break"
    tokens = view.array("tokenizer.ggml.tokens")
    numbered = enumerate(tokens.iterate() if tokens is not None else ())
    row = next((number for number, token in numbered if token == _LINE_BREAK), None)
    if row is None:
        view.add(constant(name, np.zeros(embeddings.shape[0], np.float32)))
    else:
        view.add(widened(reshaped(cut(embeddings, 1, name, first=row), embeddings.shape[:1])))


PROJECTOR = Projector(_plan, has_eyes)
