"""The other families' eyes and ears: every tensor under the name that the engine asks for, in a type it can add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes.encoders import FEED, TEXT, WIDTH, arrays_of, encoder_file, in_blocks, projector_of, vision_keys

from corral.errors import UntranslatableModel
from corral.gguf import GGUFHeader
from corral.translate import recognize
from corral.translate.projectors import PROJECTORS

QKVO = ("q", "k", "v", "out")
# what the engine reads of every block of a plain encoder: source's name -> shape, engine's name
ATTENTION = {f"attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v")}


def blocks(names: dict[str, tuple[int, ...]], prefix: str = "v") -> dict[str, Any]:
    return dict(in_blocks({f"{name}.weight": shape for name, shape in names.items()}, prefix))


GEMMA3 = {
    **blocks(
        {
            **ATTENTION,
            "attn_output": (WIDTH, WIDTH),
            "layer_norm1": (WIDTH,),
            "layer_norm2": (WIDTH,),
            "mlp.fc1": (FEED, WIDTH),
            "mlp.fc2": (WIDTH, FEED),
        }
    ),
    "v.patch_embedding.weight": (WIDTH, 3, 4, 4),
    "v.position_embedding.weight": (16, WIDTH),
    "v.post_layernorm.weight": (WIDTH,),
    "mm.mm_input_projection.weight": (WIDTH, TEXT),
    "mm.mm_soft_emb_norm.weight": (WIDTH,),
}
LLAMA4 = {
    **blocks(
        {
            **ATTENTION,
            "attn_output": (WIDTH, WIDTH),
            "attn_norm": (WIDTH,),
            "ffn_norm": (WIDTH,),
            "mlp.fc1": (FEED, WIDTH),
            "mlp.fc2": (WIDTH, FEED),
        }
    ),
    "v.class_embedding": (WIDTH,),
    "v.positional_embedding_vlm": (17, WIDTH),
    "v.patch_embedding.weight": (WIDTH, 48),
    "v.layernorm_pre.weight": (WIDTH,),
    "v.layernorm_post.weight": (WIDTH,),
    "v.vision_adapter.mlp.fc1.weight": (FEED, WIDTH * 4),
    "v.vision_adapter.mlp.fc2.weight": (FEED, FEED),
    "mm.linear_1.weight": (TEXT, FEED),
}
QWEN25VL = {
    **blocks(
        {
            **ATTENTION,
            "attn_out": (WIDTH, WIDTH),
            "ffn_gate": (FEED, WIDTH),
            "ffn_up": (FEED, WIDTH),
            "ffn_down": (WIDTH, FEED),
        }
    ),
    "v.merger.ln_q.weight": (WIDTH,),
    "v.merger.mlp.0.weight": (WIDTH * 4, WIDTH * 4),
    "v.merger.mlp.0.bias": (WIDTH * 4,),
    "v.merger.mlp.2.weight": (TEXT, WIDTH * 4),
    "v.merger.mlp.2.bias": (TEXT,),
    "v.patch_embd_0.weight": (WIDTH, 3, 4, 4),
    "v.patch_embd_1.weight": (WIDTH, 3, 4, 4),
}
GLMOCR = {
    **blocks(
        {"attn_qkv": (3 * WIDTH, WIDTH), "attn_out": (WIDTH, WIDTH), "ffn_up": (FEED, WIDTH), "ffn_down": (WIDTH, FEED)}
    ),
    **{f"mm.{name}.weight": (TEXT, WIDTH) for name in ("model.fc", "up", "gate", "down")},
    "mm.post_norm.weight": (TEXT,),
    "mm.patch_merger.weight": (TEXT, WIDTH, 2, 2),
    "mm.patch_merger.bias": (TEXT,),
    "v.patch_embd_0.weight": (WIDTH, 3, 4, 4),
    "v.patch_embd_1.weight": (WIDTH, 3, 4, 4),
}
DEEPSEEK = {
    **blocks(
        {
            "self_attn.qkv_proj": (3 * WIDTH, WIDTH),
            "self_attn.out_proj": (WIDTH, WIDTH),
            "layer_norm1": (WIDTH,),
            "layer_norm2": (WIDTH,),
            "mlp.fc1": (FEED, WIDTH),
            "mlp.fc2": (WIDTH, FEED),
        }
    ),
    **blocks(
        {
            "attn.qkv": (3 * WIDTH, WIDTH),
            "attn.proj": (WIDTH, WIDTH),
            "norm1": (WIDTH,),
            "norm2": (WIDTH,),
            "mlp.lin1": (FEED, WIDTH),
            "mlp.lin2": (WIDTH, FEED),
        },
        "s",
    ),
    **in_blocks({"attn.rel_pos_h": (27, WIDTH), "attn.rel_pos_w": (27, WIDTH)}, "s"),
    "s.patch_embd.weight": (WIDTH, 3, 4, 4),
    "s.position_embd": (4, 4, WIDTH),
    **{f"s.neck.{number}.weight": (WIDTH, WIDTH, 1, 1) for number in (0, 2)},
    **{f"s.neck.{number}.weight": (WIDTH,) for number in (1, 3)},
    "s.net_2.weight": (WIDTH, WIDTH, 3, 3),
    "s.net_3.weight": (WIDTH, WIDTH, 3, 3),
    "v.class_embd": (WIDTH,),
    "v.patch_embd.weight": (WIDTH, 3, 4, 4),
    "v.position_embd.weight": (17, WIDTH),
    "v.pre_layrnorm.weight": (WIDTH,),
    "mm.layers.weight": (TEXT, WIDTH * 2),
    "mm.layers.bias": (TEXT,),
    "mm.image_newline": (TEXT,),
    "mm.view_seperator": (TEXT,),
}
KEYS = {
    "gemma3": vision_keys(),
    "llama4": vision_keys(**{"vision.pixel_shuffle_ratio": 0.5}),
    "qwen25vl": vision_keys(
        **{"vision.spatial_merge_size": 2, "vision.window_size": 16, "vision.fullatt_block_indexes": [1, 3]}
    ),
    "glmocr": vision_keys(
        **{"vision.spatial_merge_size": 2, "vision.intermediate_size": FEED, "vision.out_hidden_size": TEXT}
    ),
    "deepseekocr": vision_keys(
        **{"vision.head_count": 2, "sam.block_count": 2, "sam.embedding_length": WIDTH, "sam.head_count": 2}
    ),
}
SHAPES = {"gemma3": GEMMA3, "llama4": LLAMA4, "qwen25vl": QWEN25VL, "glmocr": GLMOCR, "deepseekocr": DEEPSEEK}
# source's tensor -> engine's. Source: llama.cpp tools/mtmd/clip-impl.h, 2026-10
NAMES = {
    "gemma3": {
        "v.patch_embedding.weight": "v.patch_embd.weight",
        "v.position_embedding.weight": "v.position_embd.weight",
        "v.post_layernorm.weight": "v.post_ln.weight",
        "v.blk.0.layer_norm1.weight": "v.blk.0.ln1.weight",
        "v.blk.1.attn_output.weight": "v.blk.1.attn_out.weight",
        "mm.mm_input_projection.weight": "mm.input_projection.weight",
        "mm.mm_soft_emb_norm.weight": "mm.soft_emb_norm.weight",
    },
    "llama4": {
        "v.class_embedding": "v.class_embd",
        "v.positional_embedding_vlm": "v.position_embd.weight",
        "v.vision_adapter.mlp.fc1.weight": "mm.model.mlp.1.weight",
        "v.vision_adapter.mlp.fc2.weight": "mm.model.mlp.2.weight",
        "mm.linear_1.weight": "mm.model.fc.weight",
        "v.blk.1.mlp.fc1.weight": "v.blk.1.ffn_up.weight",
        "v.blk.1.attn_norm.weight": "v.blk.1.ln1.weight",
        "v.layernorm_pre.weight": "v.pre_ln.weight",
    },
    "qwen25vl": {
        "v.merger.ln_q.weight": "v.post_ln.weight",
        "v.merger.mlp.0.bias": "mm.0.bias",
        "v.merger.mlp.2.weight": "mm.2.weight",
        "v.patch_embd_0.weight": "v.patch_embd.weight",
        "v.patch_embd_1.weight": "v.patch_embd.weight.1",
    },
    "glmocr": {
        "v.patch_embd_0.weight": "v.patch_embd.weight",
        "v.patch_embd_1.weight": "v.patch_embd.weight.1",
        "mm.patch_merger.weight": "mm.patch_merger.weight",
    },
    "deepseekocr": {
        "s.blk.1.attn.qkv.weight": "v.sam.blk.1.attn.qkv.weight",
        "s.blk.1.attn.proj.weight": "v.sam.blk.1.attn.out.weight",
        "s.blk.0.attn.rel_pos_h": "v.sam.blk.0.attn.pos_h.weight",
        "s.blk.0.attn.rel_pos_w": "v.sam.blk.0.attn.pos_w.weight",
        "s.blk.0.norm1.weight": "v.sam.blk.0.pre_ln.weight",
        "s.blk.0.norm2.weight": "v.sam.blk.0.post_ln.weight",
        "s.blk.0.mlp.lin1.weight": "v.sam.blk.0.mlp.lin1.weight",
        "s.position_embd": "v.sam.pos_embd.weight",
        "s.neck.2.weight": "v.sam.neck.2.weight",
        "s.net_3.weight": "v.sam.net_3.weight",
        "v.blk.0.self_attn.qkv_proj.weight": "v.blk.0.attn_qkv.weight",
        "v.blk.0.layer_norm2.weight": "v.blk.0.ln2.weight",
        "v.pre_layrnorm.weight": "v.pre_ln.weight",
        "mm.layers.bias": "mm.model.fc.bias",
        "mm.image_newline": "v.image_newline",
        "mm.view_seperator": "v.view_seperator",
    },
}
FAMILIES = sorted(SHAPES)


def model(tmp_path: Path, family: str, types: dict[str, str] | None = None) -> GGUFHeader:
    return encoder_file(tmp_path / "m.gguf", family, KEYS[family], SHAPES[family], types)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_has_the_name_that_the_engine_asks_for(tmp_path: Path, family: str) -> None:
    header = model(tmp_path, family)
    before, (_, after) = arrays_of(header.path), projector_of(header)
    assert len(after) == len(before)
    for old, new in NAMES[family].items():
        assert np.array_equal(after[new], before[old]), (old, new)
        assert old == new or old not in after


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_finds_every_key_that_it_wants(tmp_path: Path, family: str) -> None:
    made, _ = projector_of(model(tmp_path, family))
    wanted = ("embedding_length", "feed_forward_length", "block_count", "projection_dim", "image_size", "patch_size")
    for key in (*wanted, "attention.head_count"):
        assert isinstance(made.metadata[f"clip.vision.{key}"], int), key
    assert isinstance(made.metadata["clip.vision.attention.layer_norm_epsilon"], float)
    for key in ("image_mean", "image_std"):
        assert made.metadata[f"clip.vision.{key}"].length == 3  # type: ignore[union-attr]
    assert made.is_projector
    assert made.metadata["clip.has_vision_encoder"] is True
    assert made.metadata["general.architecture"] == "clip"
    assert not [key for key in made.metadata if not key.startswith(("clip.", "general."))]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_engine_adds_or_convolves_is_float32(tmp_path: Path, family: str) -> None:
    halves = {name: "F16" for name in SHAPES[family] if name.startswith(("v.", "s.", "mm."))}
    made, _ = projector_of(model(tmp_path, family, halves))
    kinds = {tensor.name: tensor.type_name for tensor in made.tensors}
    added = {
        new for new in NAMES[family].values() if "embd" in new or "pos_" in new or "newline" in new or "_ln" in new
    }
    unfolded = {"v.patch_embd.weight"} if family == "llama4" else set()  # a matrix there, not a convolution's kernel
    assert {kinds[name] for name in added - unfolded} == {"F32"}
    assert {kind for name, kind in kinds.items() if name.endswith((".ffn_up.weight", ".attn_out.weight"))} == {"F16"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_without_one_of_its_tensors_is_refused_by_the_name_of_the_tensor(tmp_path: Path, family: str) -> None:
    for left_out, new in NAMES[family].items():
        if "blk" in new or "norm" in new or "_ln" in new or "newline" in new:
            continue  # those are optional to the engine, or part of every block
        shapes = {name: shape for name, shape in SHAPES[family].items() if name != left_out}
        header = encoder_file(tmp_path / "m.gguf", family, KEYS[family], shapes)
        with pytest.raises(UntranslatableModel, match=f"tensor '{new}': is not there"):
            projector_of(header)


def test_gemma3s_layers_stay_apart_even_when_they_are_square(tmp_path: Path) -> None:
    shapes = {**GEMMA3, **blocks({"mlp.fc1": (WIDTH, WIDTH), "mlp.fc2": (WIDTH, WIDTH)})}
    header = encoder_file(tmp_path / "m.gguf", "gemma3", KEYS["gemma3"], shapes)
    before, (_, after) = arrays_of(header.path), projector_of(header)
    # the engine swaps the two when "down" has rows as wide as the encoder, which it then always has
    assert np.array_equal(after["v.blk.0.ffn_down.weight"], before["v.blk.0.mlp.fc1.weight"])


@pytest.mark.parametrize(("blocks_said", "every"), [([1, 3], 2), ([7, 15, 23, 31], 8), ([], 8), (None, 8)])
def test_qwen25vl_sees_the_whole_image_every_few_blocks(
    tmp_path: Path, blocks_said: list[int] | None, every: int
) -> None:
    keys = dict(KEYS["qwen25vl"])
    del keys["vision.fullatt_block_indexes"]
    if blocks_said:
        keys["vision.fullatt_block_indexes"] = blocks_said
    made, _ = projector_of(encoder_file(tmp_path / "m.gguf", "qwen25vl", keys, QWEN25VL))
    assert made.metadata["clip.vision.n_wa_pattern"] == every


@pytest.mark.parametrize(("ratio", "factor"), [(0.5, 2), (0.25, 4), (1.0, 1)])
def test_llama4_shuffles_by_the_inverse_of_the_files_ratio(tmp_path: Path, ratio: float, factor: int) -> None:
    keys = {**KEYS["llama4"], "vision.pixel_shuffle_ratio": ratio}
    made, _ = projector_of(encoder_file(tmp_path / "m.gguf", "llama4", keys, LLAMA4))
    assert made.metadata["clip.vision.projector.scale_factor"] == factor


def test_llama4s_ratio_has_to_be_one(tmp_path: Path) -> None:
    keys = {**KEYS["llama4"], "vision.pixel_shuffle_ratio": 0.0}
    with pytest.raises(UntranslatableModel, match="pixel_shuffle_ratio"):
        projector_of(encoder_file(tmp_path / "m.gguf", "llama4", keys, LLAMA4))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_without_an_encoder_sees_nothing(tmp_path: Path, family: str) -> None:
    header = encoder_file(tmp_path / "m.gguf", family, {"embedding_length": TEXT}, {"token_embd.weight": (4, TEXT)})
    assert not PROJECTORS[family].sees(header)
    assert not PROJECTORS[family].hears(header)


LLAVA = {
    "clip.has_vision_encoder": True,
    "clip.has_text_encoder": False,
    "clip.vision.block_count": 2,
    "clip.vision.image_size": 16,
}


def llava(tmp_path: Path, **more: Any) -> GGUFHeader:
    shapes = {"v.patch_embd.weight": (WIDTH, 3, 4, 4), "mm.0.weight": (TEXT, WIDTH), "mm.2.weight": (TEXT, TEXT)}
    return encoder_file(tmp_path / "m.gguf", "clip", {**LLAVA, **more}, shapes, {"mm.0.weight": "F16"})


def test_an_old_llavas_projector_gets_its_type_and_keeps_all_else(tmp_path: Path) -> None:
    header = llava(tmp_path)
    layout = recognize(header)
    assert layout is not None
    assert (layout.sees, layout.hears, layout.text_plan()) == (True, False, None)
    before, (made, after) = arrays_of(header.path), projector_of(header)
    assert dict(made.metadata) == {**header.metadata, "clip.projector_type": "mlp"}
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert [tensor.type_name for tensor in made.tensors] == [tensor.type_name for tensor in header.tensors]
    assert recognize(made) is None


@pytest.mark.parametrize(
    "more",
    [
        {"clip.projector_type": "mlp"},
        {"clip.vision.projector_type": "gemma3"},
        {"clip.has_vision_encoder": False},
    ],
)
def test_a_projector_that_says_its_type_is_left_alone(tmp_path: Path, more: dict[str, Any]) -> None:
    assert recognize(llava(tmp_path, **more)) is None
