"""Pixtral in mistral3's files: rows of q and k in the engine's order, and the row that ends a line of patches."""

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
    Arrays,
    arrays_of,
    encoder_file,
    in_blocks,
    projector_of,
    vision_keys,
)

from corral.errors import UntranslatableModel

SHAPES: dict[str, Any] = {
    **in_blocks(
        {
            **{f"attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")},
            "attn_norm.weight": (WIDTH,),
            "ffn_norm.weight": (WIDTH,),
            "ffn_gate.weight": (FEED, WIDTH),
            "ffn_up.weight": (FEED, WIDTH),
            "ffn_down.weight": (WIDTH, FEED),
        }
    ),
    "v.patch_conv.weight": (WIDTH, 3, 4, 4),
    "v.encoder_norm.weight": (WIDTH,),
    "mm.linear_1.weight": (TEXT, WIDTH),
    "mm.linear_2.weight": (TEXT, TEXT),
    "mm.norm.weight": (WIDTH,),
    "mm.patch_merger.merging_layer.weight": (WIDTH, WIDTH * 4),
    "token_embd.weight": (4, 32),
}
TOKENS = ["<s>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]


def made(
    tmp_path: Path, tokens: list[str], shapes: dict[str, Any] | None = None, types: dict[str, str] | None = None
) -> tuple[Arrays, Arrays, dict[str, str]]:
    """(the file's tensors, the projector's, the projector's types)."""
    keys = vision_keys(**{"embedding_length": 32, "spatial_merge_size": 2, "tokenizer.ggml.tokens": tokens})
    header = encoder_file(tmp_path / "m.gguf", "mistral3", keys, {**SHAPES, **(shapes or {})}, types)
    projector, after = projector_of(header)
    return arrays_of(header.path), after, {tensor.name: tensor.type_name for tensor in projector.tensors}


def llama_order(rows: Any) -> Any:
    """As llama.cpp's own converter reorders q and k (conversion/llama.py permute, 2026-10)."""
    return rows.reshape(HEADS, 2, WIDTH // HEADS // 2, -1).swapaxes(1, 2).reshape(rows.shape)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_q_and_k_are_reordered_whatever_their_type_and_v_is_not(tmp_path: Path, kind: str) -> None:
    wide = {f"v.blk.{block}.attn_{part}.weight": (WIDTH, 32) for block in range(BLOCKS) for part in "qk"}
    before, after, types = made(tmp_path, TOKENS, wide, dict.fromkeys(wide, kind))
    for name in wide:
        assert np.array_equal(after[name], llama_order(before[name]))
        assert types[name] == kind
    assert np.array_equal(after["v.blk.0.attn_v.weight"], before["v.blk.0.attn_v.weight"])


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0"])
def test_a_line_of_patches_ends_with_the_embedding_of_its_token(tmp_path: Path, kind: str) -> None:
    before, after, types = made(tmp_path, TOKENS, types={"token_embd.weight": kind})
    assert np.array_equal(after["v.token_embd.img_break"], before["token_embd.weight"][2])
    assert types["v.token_embd.img_break"] == "F32"


def test_without_that_token_it_ends_with_nothing(tmp_path: Path) -> None:
    _, after, _ = made(tmp_path, ["<s>", "a", "b", "c"])
    assert not after["v.token_embd.img_break"].any()
    assert after["v.token_embd.img_break"].shape == (32,)


def test_nothing_keeps_a_name_that_the_engine_does_not_know(tmp_path: Path) -> None:
    _, after, _ = made(tmp_path, TOKENS)
    assert not [name for name in after if "output" in name or "_norm" in name.replace("input_norm", "")]
    assert {"v.patch_embd.weight", "v.pre_ln.weight", "mm.input_norm.weight", "mm.patch_merger.weight"} <= set(after)
    assert "token_embd.weight" not in after


@pytest.mark.parametrize(
    ("shapes", "tokens", "named"),
    [
        ({"v.blk.1.attn_q.weight": (WIDTH + 1, WIDTH)}, TOKENS, r"v\.blk\.1\.attn_q\.weight"),
        ({"v.blk.0.attn_k.weight": (6, WIDTH)}, TOKENS, r"v\.blk\.0\.attn_k\.weight"),
        ({}, ["x"] * 9 + ["[IMG_BREAK]"], r"token_embd\.weight"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, shapes: dict[str, Any], tokens: list[str], named: str) -> None:
    with pytest.raises(UntranslatableModel, match=named):
        made(tmp_path, tokens, shapes)
