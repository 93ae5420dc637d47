"""The eyes of nemotron3 (omni): RADIO, its position embeddings resampled to the one size that the engine looks at.

Its ears are left out: Ollama does not use them either, and no file is known that they could be tried with.
Source: ollama llama/compat/llama-ollama-compat.cpp handle_nemotron_h_omni_clip, 2026-08.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from corral.errors import UntranslatableModel
from corral.gguf import TensorInfo
from corral.translate.content import Floats
from corral.translate.family import Projector
from corral.translate.projectors.clip import CLIP_MEAN, CLIP_STD, Encoder, begin, has_eyes, need
from corral.translate.recipes import Recipe, computed, passed, reshaped
from corral.translate.view import View

_POSITIONS = "v.position_embd.weight"
_TENSORS = {
    "v.cls_embd": "v.class_embd",
    "mm.norm.": "mm.model.mlp.0.",
    "mm.1.": "mm.model.mlp.1.",
    "mm.2.": "mm.model.mlp.3.",
}


def _plan(view: View) -> None:
    begin(view, "v.", "mm.norm.", "mm.1.", "mm.2.")
    eyes = Encoder(view, "nemotron_v2_vl", activation="gelu")
    eyes.blocks()
    width = eyes.integer("embedding_length", default=1280)
    eyes.integer("feed_forward_length", default=4 * width)
    eyes.integer("attention.head_count", default=16)
    patch = eyes.integer("patch_size", default=16)
    side = eyes.integer("image_size", default=512) // patch
    channels = eyes.integer("num_channels", default=3)
    eyes.integer("projector.scale_factor", default=2)
    eyes.integer("projection_dim", ".embedding_length")
    eyes.number("attention.layer_norm_epsilon", default=1e-6)
    eyes.normalization(CLIP_MEAN, CLIP_STD)
    view.rename_tensors(_TENSORS)
    _resample_positions(view, width, side)
    kernel = view.need("v.patch_embd.weight")
    view.add(reshaped(passed(kernel), (patch, patch, channels, width)))
    eyes.finish("v.class_embd", "v.patch_embd.weight")
    need(view, "v.class_embd", "mm.model.mlp.0.weight", "mm.model.mlp.1.weight", "mm.model.mlp.3.weight")


def _resample_positions(view: View, width: int, side: int) -> None:
    """[width, any square] → [width, side x side]."""
    info = view.source("v.position_embd") or view.need(_POSITIONS)
    extents = [extent for extent in info.shape if extent != 1]
    have = math.isqrt(info.elements // width)
    if side < 1 or have < 1 or extents not in ([width, have * have], [have * have, width]):
        why = f"shape {list(info.shape)} is no square of rows of {width}"
        raise UntranslatableModel(f"tensor {info.name!r}", why)
    view.leave_out("v.position_embd")
    view.add(_resampled(info, width, have, side, by_row=extents[0] == width))


def _resampled(info: TensorInfo, width: int, have: int, side: int, *, by_row: bool) -> Recipe:
    def compute(inputs: Sequence[Floats]) -> Floats:
        rows = inputs[0].reshape(-1, width) if by_row else inputs[0].reshape(width, -1).T
        return bilinear(rows.reshape(have, have, width), side)

    return computed(_POSITIONS, (width, side * side), [info], compute)


def bilinear(grid: Floats, side: int) -> Floats:
    """A square of vectors at `side` x `side` places, its corners kept: [have, have, width] → [side, side, width]."""
    places = np.linspace(0, len(grid) - 1, side)
    low = places.astype(np.int64)
    high = np.minimum(low + 1, len(grid) - 1)
    part = (places - low).astype(np.float32)[:, np.newaxis]
    rows = grid[low] * (1 - part[:, np.newaxis]) + grid[high] * part[:, np.newaxis]
    return np.asarray(rows[:, low] * (1 - part) + rows[:, high] * part, np.float32)


PROJECTOR = Projector(_plan, has_eyes)
