"""The eyes and ears of gemma4: a vision encoder with clamped layers, a conformer for sound; not every size hears.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_gemma4_clip, 2026-08.
"""

from __future__ import annotations

from corral.translate.family import Projector
from corral.translate.projectors.clip import Encoder, begin, has_ears, has_eyes, need
from corral.translate.recipes import passed
from corral.translate.view import View

_IMAGE_SIZE = 224  # the engine needs a figure and does not use it: images keep their proportions
_MEL_BINS = 128
_POOLING = 3  # patches on a side that become one token
_EPSILON = 1e-6
_SOUND_PREFIXES = ("a.", "mm.a.")
_SOUND_TENSORS = (
    ("a.pre_encode.out.", "a.input_projection."),
    ("mm.a.fc.", "a.pre_encode.out."),
    (".ln1.", ".attn_pre_norm."),
    (".ln2.", ".attn_post_norm."),
    (".layer_pre_norm.", ".ln2."),
    (".linear_pos.", ".attn_k_rel."),
)
_SOUND_LEAVES = (
    "attn_k_rel",
    "conv_dw",
    "conv_norm",
    "conv_pw1",
    "conv_pw2",
    "ffn_norm",
    "ffn_norm_1",
    "ffn_up_1",
    "ffn_down_1",
)


def _plan(view: View) -> None:
    begin(view)
    if has_ears(view.header):
        _add_ears(view)
    if has_eyes(view.header):
        _add_eyes(view)


def _add_ears(view: View) -> None:
    view.take(*_SOUND_PREFIXES)
    ears = Encoder(view, "gemma4a", modality="audio")
    ears.blocks()
    ears.integers("embedding_length", "feed_forward_length", "attention.head_count")
    ears.integer("num_mel_bins", default=_MEL_BINS)
    ears.integer("projection_dim", ".embedding_length")
    ears.number("attention.layer_norm_epsilon", default=_EPSILON)
    view.rename_tensors(_SOUND_TENSORS)
    ears.finish(".conv_dw.weight", "a.conv1d.0.weight", "a.conv1d.1.weight", leaves=_SOUND_LEAVES)
    need(view, "a.conv1d.0.weight", "a.conv1d.1.weight", "a.input_projection.weight", "mm.a.input_projection.weight")


def _add_eyes(view: View) -> None:
    view.add(*(passed(info) for info in view.sources("v.", "mm.") if not info.name.startswith(_SOUND_PREFIXES)))
    eyes = Encoder(view, "gemma4v")
    eyes.blocks()
    eyes.integers("embedding_length", "feed_forward_length", "attention.head_count", "patch_size")
    eyes.integer("image_size", default=_IMAGE_SIZE)
    eyes.integer("projection_dim", ".embedding_length")
    eyes.integer("projector.scale_factor", default=_POOLING)
    eyes.number("attention.layer_norm_epsilon", default=_EPSILON)
    eyes.normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    eyes.finish("v.patch_embd.weight", "v.position_embd.weight")
    need(view, "v.patch_embd.weight", "v.position_embd.weight", "mm.input_projection.weight")


PROJECTOR = Projector(_plan, has_eyes, has_ears)
