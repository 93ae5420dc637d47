"""gemma4's eyes and ears in one projector's file; either may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes.encoders import (
    BLOCKS,
    FEED,
    HEADS,
    TEXT,
    WIDTH,
    arrays_of,
    encoder_file,
    in_blocks,
    projector_of,
    vision_keys,
)

from corral.errors import UntranslatableModel
from corral.translate.projectors import PROJECTORS

EYES: dict[str, Any] = {
    **in_blocks(
        {
            **{f"attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")},
            "ln1.weight": (WIDTH,),
            "ln2.weight": (WIDTH,),
            "attn_q.input_max": (1,),
            "ffn_up.weight": (FEED, WIDTH),
            "ffn_down.weight": (WIDTH, FEED),
        }
    ),
    "v.patch_embd.weight": (WIDTH, 3, 4, 4),
    "v.position_embd.weight": (2, 16, WIDTH),
    "mm.input_projection.weight": (TEXT, WIDTH),
}
EARS: dict[str, Any] = {
    **in_blocks(
        {
            **{f"attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")},
            "ln1.weight": (WIDTH,),
            "ln2.weight": (WIDTH,),
            "layer_pre_norm.weight": (WIDTH,),
            "linear_pos.weight": (WIDTH, WIDTH),
            "conv_dw.weight": (WIDTH, 5),
            "conv_norm.weight": (WIDTH,),
            "conv_pw1.weight": (2 * WIDTH, WIDTH),
            "conv_pw2.weight": (WIDTH, WIDTH),
            "ffn_norm.weight": (WIDTH,),
            "ffn_norm_1.weight": (WIDTH,),
            "ffn_up_1.weight": (FEED, WIDTH),
            "ffn_down_1.weight": (WIDTH, FEED),
            "ffn_up.weight": (FEED, WIDTH),
            "ffn_down.weight": (WIDTH, FEED),
        },
        "a",
    ),
    "a.conv1d.0.weight": (4, 1, 3, 3),
    "a.conv1d.1.weight": (4, 4, 3, 3),
    "a.pre_encode.out.weight": (WIDTH, 16),
    "mm.a.fc.weight": (TEXT, WIDTH),
    "mm.a.fc.bias": (TEXT,),
    "mm.a.input_projection.weight": (TEXT, TEXT),
}
EAR_KEYS = {
    "audio.block_count": BLOCKS,
    "audio.embedding_length": WIDTH,
    "audio.feed_forward_length": FEED,
    "audio.attention.head_count": HEADS,
    "audio.attention.layer_norm_epsilon": 1e-6,
}


def model(tmp_path: Path, shapes: dict[str, Any], types: dict[str, str] | None = None, **more: Any) -> Any:
    return encoder_file(tmp_path / "m.gguf", "gemma4", {**vision_keys(), **EAR_KEYS, **more}, shapes, types)


def test_ears_are_renamed_and_eyes_are_not(tmp_path: Path) -> None:
    header = model(tmp_path, {**EYES, **EARS})
    before, (_, after) = arrays_of(header.path), projector_of(header)
    assert len(after) == len(before)
    for old, new in {
        "a.pre_encode.out.weight": "a.input_projection.weight",
        "mm.a.fc.weight": "a.pre_encode.out.weight",
        "mm.a.fc.bias": "a.pre_encode.out.bias",
        "mm.a.input_projection.weight": "mm.a.input_projection.weight",
        "a.blk.1.ln1.weight": "a.blk.1.attn_pre_norm.weight",
        "a.blk.1.ln2.weight": "a.blk.1.attn_post_norm.weight",
        "a.blk.1.layer_pre_norm.weight": "a.blk.1.ln2.weight",
        "a.blk.1.linear_pos.weight": "a.blk.1.attn_k_rel.weight",
        **{name: name for name in EYES},
    }.items():
        assert np.array_equal(after[new], before[old]), (old, new)


@pytest.mark.parametrize(
    ("shapes", "sees", "hears"), [(EYES, True, False), (EARS, False, True), ({**EYES, **EARS}, True, True)]
)
def test_a_file_has_the_senses_whose_encoders_are_in_it(
    tmp_path: Path, shapes: dict[str, Any], sees: bool, hears: bool
) -> None:
    header = model(tmp_path, shapes)
    projector = PROJECTORS["gemma4"]
    assert (projector.sees(header), projector.hears(header)) == (sees, hears)
    made, _ = projector_of(header)
    assert made.metadata.get("clip.has_vision_encoder", False) is sees
    assert made.metadata.get("clip.has_audio_encoder", False) is hears
    assert made.metadata.get("clip.vision.projector_type") == ("gemma4v" if sees else None)
    assert made.metadata.get("clip.audio.projector_type") == ("gemma4a" if hears else None)
    assert made.has_audio_encoder is hears


def test_ears_say_what_the_engine_needs(tmp_path: Path) -> None:
    made, _ = projector_of(model(tmp_path, EARS))
    assert made.metadata["clip.audio.num_mel_bins"] == 128
    assert made.metadata["clip.audio.projection_dim"] == TEXT


def test_kernels_and_bounds_are_float32_and_matrices_stay(tmp_path: Path) -> None:
    half = ("a.conv1d.0.weight", "a.blk.0.conv_dw.weight", "v.patch_embd.weight", "v.blk.0.attn_q.input_max")
    header = model(tmp_path, {**EYES, **EARS}, dict.fromkeys((*half, "a.blk.0.attn_q.weight"), "BF16"))
    kinds = {tensor.name: tensor.type_name for tensor in projector_of(header)[0].tensors}
    assert {kinds[name] for name in half} == {"F32"}
    assert kinds["a.blk.0.attn_q.weight"] == "BF16"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("a.conv1d.1.weight", "a.conv1d.1.weight"),
        ("mm.a.input_projection.weight", "mm.a.input_projection.weight"),
        ("v.position_embd.weight", "v.position_embd.weight"),
        ("v.blk.1.attn_k.weight", "v.blk.1.attn_k.weight"),
        # without these the engine starts, and dies of the first sound
        ("a.blk.1.linear_pos.weight", "a.blk.1.attn_k_rel.weight"),
        ("a.blk.0.conv_pw2.weight", "a.blk.0.conv_pw2.weight"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, name: str, named: str) -> None:
    shapes = {key: shape for key, shape in {**EYES, **EARS}.items() if key != name}
    with pytest.raises(UntranslatableModel, match=f"tensor '{named}': is not there"):
        projector_of(model(tmp_path, shapes))
