from __future__ import annotations

import io
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.fakes.ggufs import make_gguf, tiny_llama

from corral.create.quantize import quantize, quantized_bytes, source_type
from corral.create.rewrite import rewrite, tensors_of
from corral.errors import QuantizationError
from corral.gguf import GGUFHeader, read_header

TYPES = gguf.GGMLQuantizationType


def write_model(path: Path, tensors: dict[str, np.ndarray], *, file_type: int | None = 1) -> GGUFHeader:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_token_list(["a", "b", "ü"])
    if file_type is not None:
        writer.add_file_type(file_type)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_header(path)


def some(*shape: int, kind: type = np.float16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(kind)


def run(header: GGUFHeader, file_type: str, out: Path) -> tuple[GGUFHeader, list[int]]:
    with out.open("wb") as file:
        progress = list(quantize(file, [header], file_type))
    return read_header(out), progress


def values_of(path: Path) -> dict[str, np.ndarray]:
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize(
    ("file_type", "error"),
    [("Q8_0", 0.01), ("Q6_K", 0.03), ("Q5_K_M", 0.06), ("Q4_K_M", 0.1), ("Q4_0", 0.12), ("Q2_K", 0.4), ("IQ4_NL", 0.1)],
)
def test_quantized_values_stay_near_their_source(tmp_path: Path, file_type: str, error: float) -> None:
    tensors = {"blk.0.ffn_up.weight": some(64, 512), "blk.0.attn_norm.weight": some(512, kind=np.float32)}
    header = write_model(tmp_path / "in", tensors)
    made, _ = run(header, file_type, tmp_path / "out")
    assert made.file_type == file_type
    source, got = tensors["blk.0.ffn_up.weight"].astype(np.float32), values_of(tmp_path / "out")
    off = np.sqrt(((source - got["blk.0.ffn_up.weight"]) ** 2).mean() / (source**2).mean())
    assert 0 < off < error
    assert np.array_equal(got["blk.0.attn_norm.weight"], tensors["blk.0.attn_norm.weight"])


@pytest.mark.parametrize(("kind", "file_type"), [(np.float32, "F16"), (np.float16, "F32"), (np.float16, "BF16")])
def test_floats_are_converted_into_each_other(tmp_path: Path, kind: type, file_type: str) -> None:
    source = some(8, 48, kind=kind)
    header = write_model(tmp_path / "in", {"blk.0.ffn_up.weight": source})
    made, _ = run(header, file_type, tmp_path / "out")
    assert [tensor.type_name for tensor in made.tensors] == [file_type]
    got = values_of(tmp_path / "out")["blk.0.ffn_up.weight"]
    assert np.allclose(got, source.astype(np.float32), rtol=2**-7)


def test_metadata_is_kept_byte_for_byte_but_for_the_type(tmp_path: Path) -> None:
    header = write_model(tmp_path / "in", {"blk.0.ffn_up.weight": some(32, 256)})
    made, _ = run(header, "Q4_K_S", tmp_path / "out")
    changed = {"general.file_type": 14, "general.quantization_version": 2, "tokenizer.ggml.tokens": None}
    assert {**made.metadata, **changed} == {**header.metadata, **changed}
    assert made.metadata["general.file_type"] == 14
    assert made.get("tokenizer.ggml.tokens").read() == ["a", "b", "ü"]


def test_progress_counts_the_source_up_to_its_end(tmp_path: Path) -> None:
    header = write_model(tmp_path / "in", {f"blk.{n}.ffn_up.weight": some(64, 256, seed=n) for n in range(3)})
    made, progress = run(header, "Q8_0", tmp_path / "out")
    assert progress == sorted(progress)
    assert progress[-1] == header.tensor_bytes
    assert quantized_bytes([header], "Q8_0") == pytest.approx(made.file_size, abs=256)


def test_experts_are_quantized_in_their_three_dimensions(tmp_path: Path) -> None:
    experts = some(4, 32, 256)
    header = write_model(tmp_path / "in", {"blk.0.ffn_down_exps.weight": experts})
    made, _ = run(header, "Q8_0", tmp_path / "out")
    assert made.tensors[0].shape == (256, 32, 4)
    assert np.allclose(values_of(tmp_path / "out")["blk.0.ffn_down_exps.weight"], experts, atol=0.01)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    bad = some(32, 256)
    bad[3, 7] = np.inf
    header = write_model(tmp_path / "in", {"blk.0.ffn_up.weight": bad})
    with pytest.raises(QuantizationError, match=r"blk\.0\.ffn_up\.weight has values that are not finite"):
        run(header, "Q4_K_M", tmp_path / "out")


def test_a_quantized_tensor_in_a_float_file_is_read_too(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "in", "llama")
    writer.add_file_type(1)
    source = some(16, 64, kind=np.float32)
    writer.add_tensor("blk.0.ffn_up.weight", gguf.quantize(source, TYPES.Q8_0), raw_dtype=TYPES.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    run(read_header(tmp_path / "in"), "Q4_0", tmp_path / "out")
    assert np.allclose(values_of(tmp_path / "out")["blk.0.ffn_up.weight"], source, atol=0.05)


@pytest.mark.parametrize(("file_type", "name"), [(1, "F16"), (7, "Q8_0"), (0, "F32"), (None, "F32")])
def test_the_source_type_is_found_where_the_header_is_silent(tmp_path: Path, file_type: int | None, name: str) -> None:
    kind = np.float16 if file_type == 1 else np.float32
    header = write_model(tmp_path / "in", {"blk.0.ffn_up.weight": some(4, 32, kind=kind)}, file_type=file_type)
    assert source_type([header]) == name


def test_rewriting_changes_only_what_it_is_told_to(tmp_path: Path) -> None:
    header = read_header(tiny_llama(tmp_path / "in", metadata={"split.no": 0, "split.count": 2}))
    with (tmp_path / "out").open("wb") as file:
        tensors = [(tensor, tensor.info.type_name) for tensor in tensors_of([header])]
        done = list(
            rewrite(file, header, tensors, put={"clip.projector_type": "mlp"}, drop=["split.no", "split.count"])
        )
    made = read_header(tmp_path / "out")
    assert done[-1] == header.tensor_bytes
    assert made.metadata["clip.projector_type"] == "mlp"
    assert not {"split.no", "split.count"} & made.metadata.keys()
    assert made.get("tokenizer.ggml.merges").read() == header.get("tokenizer.ggml.merges").read()
    before, after = values_of(tmp_path / "in"), values_of(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_file_that_shrinks_under_the_writer_is_an_error_not_a_loop(tmp_path: Path) -> None:
    header = read_header(make_gguf(tmp_path / "in", tensors={"a.weight": [64, 64]}))
    with (tmp_path / "in").open("r+b") as file:
        file.truncate(header.file_size - 100)
    with pytest.raises(OSError, match="missing at the end"):
        list(rewrite(io.BytesIO(), header, [(tensor, "F32") for tensor in tensors_of([header])]))
