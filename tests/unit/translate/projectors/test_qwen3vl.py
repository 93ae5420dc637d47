"""qwen3-vl's and qwen3.5's eyes: frames apart, attention together, mergers named after their blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes.encoders import (
    BLOCKS,
    FEED,
    TEXT,
    WIDTH,
    arrays_of,
    encoder_file,
    in_blocks,
    projector_of,
    vision_keys,
)

from corral.errors import UntranslatableModel
from corral.gguf import GGUFHeader

MERGED = WIDTH * 4
SHAPES: dict[str, Any] = {
    **in_blocks(
        {
            **{f"attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")},
            **{f"attn_{part}.bias": (WIDTH,) for part in ("q", "k", "v", "out")},
            "mlp.linear_fc1.weight": (FEED, WIDTH),
            "mlp.linear_fc2.weight": (WIDTH, FEED),
            "norm1.weight": (WIDTH,),
            "norm2.weight": (WIDTH,),
        }
    ),
    "v.patch_embed.weight": (WIDTH * 3, 2, 4, 4),
    "v.patch_embed.bias": (WIDTH,),
    "v.pos_embed.weight": (25, WIDTH),
    "v.merger.norm.weight": (WIDTH,),
    "v.merger.linear_fc1.weight": (MERGED, MERGED),
    "v.merger.linear_fc1.bias": (MERGED,),
    "v.merger.linear_fc2.weight": (TEXT, MERGED),
    "v.merger.linear_fc2.bias": (TEXT,),
    "v.deepstack_merger.0.norm.weight": (MERGED,),
    "v.deepstack_merger.0.linear_fc1.weight": (MERGED, MERGED),
    "v.deepstack_merger.0.linear_fc2.weight": (TEXT, MERGED),
}


def model(
    tmp_path: Path,
    architecture: str = "qwen3vl",
    keys: dict[str, Any] | None = None,
    shapes: dict[str, Any] | None = None,
    types: dict[str, str] | None = None,
) -> GGUFHeader:
    more = {"vision.spatial_merge_size": 2, "vision.deepstack_visual_indexes": [1], **(keys or {})}
    return encoder_file(tmp_path / "m.gguf", architecture, vision_keys(**more), {**SHAPES, **(shapes or {})}, types)


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_the_kernel_over_two_frames_becomes_two(tmp_path: Path, kind: str) -> None:
    header = model(tmp_path, types={"v.patch_embed.weight": kind})
    before = arrays_of(header.path)["v.patch_embed.weight"].reshape(WIDTH, 3, 2, 4, 4)
    made, after = projector_of(header)
    assert np.array_equal(after["v.patch_embd.weight"], before[:, :, 0])
    assert np.array_equal(after["v.patch_embd.weight.1"], before[:, :, 1])
    kinds = {tensor.name: tensor.type_name for tensor in made.tensors}
    assert kinds["v.patch_embd.weight"] == kinds["v.patch_embd.weight.1"] == "F32"


@pytest.mark.parametrize(("v_kind", "kind"), [("F16", "F16"), ("F32", "F32")])
def test_attention_is_one_tensor_a_block_and_keeps_its_type_where_all_parts_have_it(
    tmp_path: Path, v_kind: str, kind: str
) -> None:
    names = [f"v.blk.1.attn_{part}.weight" for part in "qkv"]
    header = model(tmp_path, types=dict(zip(names, ("F16", "F16", v_kind), strict=True)))
    before = arrays_of(header.path)
    made, after = projector_of(header)
    assert np.array_equal(after["v.blk.1.attn_qkv.weight"], np.concatenate([before[name] for name in names]))
    assert len(after["v.blk.1.attn_qkv.bias"]) == 3 * WIDTH
    assert {t.type_name for t in made.tensors if t.name == "v.blk.1.attn_qkv.weight"} == {kind}
    assert not set(names) & set(after)


def test_mergers_are_named_after_their_blocks(tmp_path: Path) -> None:
    header = model(tmp_path)
    before, (_, after) = arrays_of(header.path), projector_of(header)
    assert np.array_equal(after["v.deepstack.1.fc1.weight"], before["v.deepstack_merger.0.linear_fc1.weight"])
    assert np.array_equal(after["mm.0.weight"], before["v.merger.linear_fc1.weight"])
    assert np.array_equal(after["v.blk.0.ffn_up.weight"], before["v.blk.0.mlp.linear_fc1.weight"])
    assert not [name for name in after if "merger" in name or "linear" in name or ".norm1" in name]


def test_sizes_that_the_file_does_not_say_come_from_its_tensors(tmp_path: Path) -> None:
    made, _ = projector_of(model(tmp_path, keys={"vision.shortest_edge": 4096}))
    assert made.metadata["clip.vision.image_size"] == 20  # five positions of four pixels
    assert made.metadata["clip.vision.feed_forward_length"] == FEED
    assert made.metadata["clip.vision.projection_dim"] == TEXT
    assert made.metadata["clip.vision.image_min_pixels"] == 4096
    assert made.metadata["clip.vision.image_max_pixels"] == 16_777_216
    assert made.metadata["general.architecture"] == "clip"


def test_qwen35_leaves_the_size_of_images_to_the_engine(tmp_path: Path) -> None:
    made, _ = projector_of(model(tmp_path, "qwen35", keys={"vision.deepstack_visual_indexes": [0]}))
    assert made.metadata["clip.vision.projector_type"] == "qwen3vl_merger"
    assert "clip.vision.image_min_pixels" not in made.metadata


@pytest.mark.parametrize(
    ("keys", "shapes", "named"),
    [
        ({}, {"v.patch_embed.weight": (WIDTH * 3, 3, 4, 4)}, r"tensor 'v\.patch_embed\.weight'.*two frames"),
        ({}, {"v.patch_embed.weight": (WIDTH * 3 + 1, 2, 4, 4)}, r"tensor 'v\.patch_embed\.weight'"),
        ({"vision.num_channels": 0}, {}, r"tensor 'v\.patch_embed\.weight'"),
        ({}, {"v.blk.1.attn_k.weight": (WIDTH, WIDTH + 1)}, r"tensor 'v\.blk\.1\.attn_k\.weight'"),
        ({"vision.deepstack_visual_indexes": [BLOCKS]}, {}, "deepstack_visual_indexes"),
        ({"vision.deepstack_visual_indexes": [-1]}, {}, "deepstack_visual_indexes"),
        ({"vision.deepstack_visual_indexes": [0] * 99}, {}, "deepstack_visual_indexes"),
        ({"vision.deepstack_visual_indexes": ["a"]}, {}, "deepstack_visual_indexes"),
        ({"vision.deepstack_visual_indexes": 1}, {}, "deepstack_visual_indexes.*is no array"),
        ({"vision.block_count": 3}, {}, r"tensor 'v\.blk\.2\.attn_qkv\.weight'"),
        ({"vision.block_count": 4_000_000_000}, {}, "block_count.*there are no 4000000000 blocks"),
        ({"vision.attention.head_count": 0}, {}, "head_count.*is 0"),
        ({"vision.patch_size": "big"}, {}, "patch_size.*is no whole number"),
        ({"vision.patch_size": 2**30}, {}, "image_size"),
        ({"vision.attention.layer_norm_epsilon": True}, {}, "layer_norm_epsilon.*is no number"),
        ({"vision.image_mean": [0.5]}, {}, "image_mean.*has 1 values"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, keys: dict[str, Any], shapes: dict[str, Any], named: str) -> None:
    header = model(tmp_path, keys=keys, shapes=shapes)
    with pytest.raises(UntranslatableModel, match=named):
        projector_of(header)


@pytest.mark.parametrize(
    "name", ["v.pos_embed.weight", "v.patch_embed.weight", "v.blk.0.attn_v.bias", "v.merger.linear_fc2.bias"]
)
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    shapes = {key: shape for key, shape in SHAPES.items() if key != name}
    header = encoder_file(tmp_path / "m.gguf", "qwen3vl", vision_keys(**{"vision.spatial_merge_size": 2}), shapes)
    with pytest.raises(UntranslatableModel, match="is not there"):
        projector_of(header)
