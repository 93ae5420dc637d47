"""What a plan promises is what is written: sizes, alignment, names, bytes; by the kernel or through memory."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.fakes.ggufs import make_gguf

from corral.errors import UntranslatableModel
from corral.gguf import GGUFHeader, read_header
from corral.translate import recognize, write
from corral.translate.recipes import (
    cut,
    interleaved,
    merged,
    passed,
    permuted,
    picked,
    stacked,
    widened,
)
from corral.translate.translation import Translation
from corral.translate.view import View

Arrays = dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]


def source(tmp_path: Path, arrays: Arrays, types: dict[str, str] | None = None) -> GGUFHeader:
    """A file with these float32 tensors, some of them quantized."""
    path = tmp_path / "source.gguf"
    writer = gguf.GGUFWriter(path, "test")
    writer.add_array("test.words", ["one", "two", "", "four"])
    for name, array in arrays.items():
        kind = gguf.GGMLQuantizationType[(types or {}).get(name, "F32")]
        raw = kind is not gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(array, kind) if raw else array, raw_dtype=kind if raw else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_header(path)


def written(tmp_path: Path, view: View) -> Arrays:
    """The tensors of the file that the view makes, as the gguf package reads and decodes them."""
    plan = view.finish()
    path = tmp_path / "target.gguf"
    with path.open("wb") as file:
        write(view.header.path, plan, file)
    assert path.stat().st_size == plan.size_bytes
    reader = gguf.GGUFReader(path)
    return {
        tensor.name: np.array(
            gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape.tolist()[::-1])
        )
        for tensor in reader.tensors
    }


def values(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_a_translated_file_is_what_its_plan_says(tmp_path: Path) -> None:
    tensors = {"blk.0.attn_out.weight": [4, 4], "blk.0.attn_sinks": [3], "blk.0.ffn_gate_exps.weight": [2, 6, 4]}
    keys = {"gptoss.block_count": 1, "tokenizer.ggml.tokens": ["a", "b"], "general.name": "tiny"}
    path = make_gguf(tmp_path / "m.gguf", "gptoss", keys, tensors)
    layout = recognize(read_header(path))
    assert layout is not None
    plan = layout.text_plan()
    assert plan is not None
    target = io.BytesIO()
    told: list[int] = []
    write(path, plan, target, told.append)
    assert len(target.getvalue()) == plan.size_bytes == told[-1]
    (tmp_path / "out.gguf").write_bytes(target.getvalue())
    header = read_header(tmp_path / "out.gguf")
    assert header.metadata["gpt-oss.block_count"] == 1
    assert header.metadata["gpt-oss.expert_feed_forward_length"] == 6
    assert "gptoss.block_count" not in header.metadata
    assert header.metadata["general.architecture"] == plan.architecture == "gpt-oss"
    assert header.metadata["tokenizer.ggml.tokens"].read() == ["a", "b"]  # type: ignore[union-attr]
    assert [(tensor.name, tensor.shape) for tensor in header.tensors] == [
        ("blk.0.attn_output.weight", (4, 4)),
        ("blk.0.attn_sinks.weight", (3,)),
        ("blk.0.ffn_gate_exps.weight", (4, 6, 2)),
    ]


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_rows_of_any_type_are_cut_merged_and_moved_undecoded(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(8, 64)).astype(np.float32) for name in "qk"}
    header = source(tmp_path, arrays, dict.fromkeys(arrays, kind))
    q, k = header.tensors
    original = written(tmp_path, View(header))
    view = View(header, empty=True)
    view.add(cut(q, 3, "cut", first=2), merged("merged", [q, k]), permuted(k, [0, 2, 1, 3], "moved"))
    view.add(stacked("stacked", [q, k]))
    new = written(tmp_path, view)
    assert np.array_equal(new["cut"], original["q"][2:5])
    assert np.array_equal(new["merged"], np.concatenate([original["q"], original["k"]]))
    assert np.array_equal(new["moved"], original["k"][[0, 2, 1, 3, 4, 6, 5, 7]])
    assert np.array_equal(new["stacked"], np.stack([original["q"], original["k"]]))
    assert {tensor.type_name for tensor in read_header(tmp_path / "target.gguf").tensors} == {kind}


def test_tensors_of_different_types_merge_as_float32(tmp_path: Path) -> None:
    arrays = {"q": values(2, 32), "v": values(3, 32)}
    header = source(tmp_path, arrays, {"q": "F16", "v": "Q8_0"})
    original = written(tmp_path, View(header))
    view = View(header, empty=True)
    view.add(merged("qv", header.tensors))
    assert np.array_equal(written(tmp_path, view)["qv"], np.concatenate([original["q"], original["v"]]))


def test_tensors_of_different_types_stack_as_float32(tmp_path: Path) -> None:
    arrays = {"0": values(2, 32), "1": values(2, 32) + 64}
    header = source(tmp_path, arrays, {"0": "Q4_0", "1": "Q8_0"})
    original = written(tmp_path, View(header))
    view = View(header, empty=True)
    view.add(stacked("experts", header.tensors))
    assert np.array_equal(written(tmp_path, view)["experts"], np.stack([original["0"], original["1"]]))


@pytest.mark.parametrize("width", [4, 2**17], ids=["many at once", "each for itself"])
def test_stacks_interleave_matrix_by_matrix(tmp_path: Path, width: int) -> None:
    gate, up = values(3, 2, width), values(3, 5, width) + 1000
    header = source(tmp_path, {"gate": gate, "up": up})
    view = View(header, empty=True)
    view.add(interleaved("gate_up", header.tensors))
    assert np.array_equal(written(tmp_path, view)["gate_up"], np.concatenate([gate, up], axis=1))


def test_a_frame_is_picked_and_widened(tmp_path: Path) -> None:
    kernel = values(6, 2, 4, 4)  # packed, frame, height, width
    header = source(tmp_path, {"patch": kernel}, {"patch": "F16"})
    view = View(header, empty=True)
    frame = picked(header.tensors[0], "patch.1", (4, 4, 3, 2), unit=16, group=2, index=1)
    view.add(widened(frame, shift=1.0))
    assert np.array_equal(written(tmp_path, view)["patch.1"], kernel[:, 1].reshape(2, 3, 4, 4) + 1)


def test_a_cut_array_keeps_its_first_elements(tmp_path: Path) -> None:
    header = source(tmp_path, {"x": values(4)})
    view = View(header)
    view.cut_array("test.words", 3)
    written(tmp_path, view)
    assert read_header(tmp_path / "target.gguf").metadata["test.words"].read() == ["one", "two", ""]  # type: ignore[union-attr]


def big_pass(tmp_path: Path) -> tuple[GGUFHeader, Translation]:
    header = source(tmp_path, {"big": values(1024, 1024), "odd": values(3)})
    return header, View(header).finish()


def test_the_kernel_and_memory_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, plan = big_pass(tmp_path)
    target = tmp_path / "target.gguf"
    with target.open("wb") as file:
        write(header.path, plan, file)

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EXDEV, "cross-device")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    with (tmp_path / "other.gguf").open("wb") as buffered:
        write(header.path, plan, buffered.raw)  # type: ignore[arg-type]
    assert target.read_bytes() == (tmp_path / "other.gguf").read_bytes()


def test_a_file_that_shrinks_while_it_is_read_names_itself(tmp_path: Path) -> None:
    header, plan = big_pass(tmp_path)
    os.truncate(header.path, header.file_size - 4096)
    with pytest.raises(UntranslatableModel, match="the file: ends at byte"):
        write(header.path, plan, io.BytesIO())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda a, b: cut(a, 9), "'a'"),
        (lambda a, b: merged("m", [a, b]), "'b'"),
        (lambda a, b: stacked("m", [a, b]), "'b'"),
        (lambda a, b: interleaved("m", [a, b]), "'a'"),
        (lambda a, b: permuted(a, [0, 1, 2]), "'a'"),
        (lambda a, b: permuted(a, []), "'a'"),
        (lambda a, b: picked(a, "p", (32, 8), unit=7, group=2, index=0), "'a'"),
        (lambda a, b: passed(a, "p", (5, 5)), "'p'"),
    ],
)
def test_recipes_that_do_not_fit_name_the_tensor(tmp_path: Path, make: object, named: str) -> None:
    header = source(tmp_path, {"a": values(8, 32), "b": values(8, 64)})
    with pytest.raises(UntranslatableModel, match=f"tensor {named}"):
        make(*header.tensors)  # type: ignore[operator]


def test_two_tensors_never_end_with_one_name(tmp_path: Path) -> None:
    header = source(tmp_path, {"x.attn_out": values(4), "x.attn_output": values(4)})
    with pytest.raises(UntranslatableModel, match=r"x\.attn_out"):
        View(header).rename_tensors({"attn_out": "attn_output"})
