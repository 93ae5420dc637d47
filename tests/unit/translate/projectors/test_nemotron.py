"""RADIO in nemotron's files: positions resampled, the kernel in four dimensions, no ears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes.encoders import FEED, TEXT, WIDTH, arrays_of, encoder_file, in_blocks, projector_of, vision_keys

from corral.errors import UntranslatableModel
from corral.translate.projectors import PROJECTORS
from corral.translate.projectors.nemotron import bilinear

SHAPES: dict[str, Any] = {
    **in_blocks(
        {
            **{f"attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")},
            "ffn_up.weight": (FEED, WIDTH),
            "ffn_down.weight": (WIDTH, FEED),
        }
    ),
    "v.cls_embd": (3, WIDTH),
    "v.patch_embd.weight": (WIDTH, 4 * 4 * 3),
    "v.position_embd": (36, WIDTH),
    "mm.norm.weight": (WIDTH * 4,),
    "mm.1.weight": (TEXT, WIDTH * 4),
    "mm.2.weight": (TEXT, TEXT),
    "mm.a.1.weight": (TEXT, TEXT),
    "a.blk.0.attn_q.weight": (TEXT, TEXT),
}


def model(tmp_path: Path, shapes: dict[str, Any] | None = None, types: dict[str, str] | None = None) -> Any:
    return encoder_file(tmp_path / "m.gguf", "nemotron_h_omni", vision_keys(), {**SHAPES, **(shapes or {})}, types)


def test_resampling_keeps_the_corners_and_is_linear_between() -> None:
    y, x = np.mgrid[0:6, 0:6].astype(np.float32)
    grid = np.stack([y, x, 3 * y - 2 * x], axis=-1)  # bilinear functions, so every point between is exact
    new = bilinear(grid, 4)
    y, x = np.mgrid[0:4, 0:4].astype(np.float32) * 5 / 3
    assert new == pytest.approx(np.stack([y, x, 3 * y - 2 * x], axis=-1), abs=1e-5)
    assert np.array_equal(bilinear(grid, 6), grid)
    assert np.array_equal(bilinear(grid, 1), grid[:1, :1])


@pytest.mark.parametrize("kind", ["F32", "F16"])
@pytest.mark.parametrize("shape", [(36, WIDTH), (WIDTH, 36), (1, 36, WIDTH)])
def test_positions_fit_the_picture_however_they_lie(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    header = model(tmp_path, {"v.position_embd": shape}, {"v.position_embd": kind})
    before = arrays_of(header.path)["v.position_embd"]
    rows = before.reshape(36, WIDTH) if shape[-1] == WIDTH else before.reshape(WIDTH, 36).T
    made, after = projector_of(header)
    assert made.metadata["clip.vision.image_size"] == 16
    assert after["v.position_embd.weight"].shape == (16, WIDTH)
    assert after["v.position_embd.weight"] == pytest.approx(bilinear(rows.reshape(6, 6, WIDTH), 4).reshape(16, WIDTH))


def test_the_kernel_and_the_registers_are_float32_as_the_engine_reads_them(tmp_path: Path) -> None:
    header = model(tmp_path, types=dict.fromkeys(("v.cls_embd", "v.patch_embd.weight"), "F16"))
    before, (made, after) = arrays_of(header.path), projector_of(header)
    assert np.array_equal(after["v.patch_embd.weight"], before["v.patch_embd.weight"].reshape(WIDTH, 3, 4, 4))
    assert np.array_equal(after["v.class_embd"], before["v.cls_embd"])
    assert np.array_equal(after["mm.model.mlp.3.weight"], before["mm.2.weight"])
    assert {tensor.type_name for tensor in made.tensors} == {"F32"}


def test_it_sees_and_does_not_hear(tmp_path: Path) -> None:
    header = model(tmp_path)
    projector = PROJECTORS["nemotron_h_omni"]
    assert projector.sees(header)
    assert not projector.hears(header)
    made, after = projector_of(header)
    assert not [name for name in after if name.startswith(("a.", "mm.a."))]
    assert "clip.has_audio_encoder" not in made.metadata


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("v.position_embd", (35, WIDTH)),
        ("v.position_embd", (36, WIDTH + 1)),
        ("v.patch_embd.weight", (WIDTH, 4 * 4 * 3 + 1)),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UntranslatableModel, match=f"tensor {name!r}"):
        projector_of(model(tmp_path, {name: shape}))
