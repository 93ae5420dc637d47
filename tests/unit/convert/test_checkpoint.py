"""Reading checkpoints: lazy, bounds-checked, clear about what is wrong."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from corral.convert.checkpoint import Checkpoint, read_safetensors
from corral.convert.weights import widen_bfloat16
from corral.errors import InvalidRequest


def raw_file(path: Path, table: object, data: bytes = b"") -> Path:
    header = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_tensors_written_by_the_library_are_read_back(tmp_path: Path) -> None:
    values: dict[str, np.ndarray[Any, Any]] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(4, np.float16),
        "none": np.zeros((0, 2), np.float32),
    }
    save_file(values, tmp_path / "m.safetensors")
    found = {tensor.name: tensor for tensor in read_safetensors(tmp_path / "m.safetensors")}
    assert {name: tensor.shape for name, tensor in found.items()} == {"a": (2, 3), "b": (4,), "none": (0, 2)}
    for name, want in values.items():
        np.testing.assert_array_equal(found[name].read_float32(), want.astype(np.float32))


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 0.15625, 3e38], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    entry = {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}
    raw_file(tmp_path / "m.safetensors", {"w": entry}, bits.tobytes())
    (tensor,) = read_safetensors(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(tensor.read_float32(), widen_bfloat16(bits))
    np.testing.assert_array_equal(tensor.read_float32()[:3], values[:3])


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 400]}, "lies outside the file"),
        ({"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}, "lies outside the file"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}, "lies outside the file"),
        ({"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}, "its shape says otherwise"),
        ({"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}, "its shape says otherwise"),
        ({"dtype": "F32", "shape": "x", "data_offsets": [0, 16]}, "damaged entry"),
        ({"shape": [4]}, "damaged entry"),
        (7, "damaged entry"),
    ],
)
def test_a_lying_table_is_refused_by_tensor_name(tmp_path: Path, entry: object, why: str) -> None:
    raw_file(tmp_path / "m.safetensors", {"w": entry}, bytes(16))
    with pytest.raises(InvalidRequest, match=why) as caught:
        list(read_safetensors(tmp_path / "m.safetensors"))
    assert "'w'" in str(caught.value)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_but_invalid_request(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(InvalidRequest):
        list(read_safetensors(path))


def test_an_unknown_type_is_named_before_anything_is_read(tmp_path: Path) -> None:
    raw_file(tmp_path / "m.safetensors", {"w": {"dtype": "F4", "shape": [32], "data_offsets": [0, 16]}}, bytes(16))
    (tensor,) = read_safetensors(tmp_path / "m.safetensors")
    with pytest.raises(InvalidRequest, match="'w' has type F4"):
        tensor.weight()


def shards(folder: Path, *names: str) -> Checkpoint:
    for name in names:
        save_file({name: np.zeros(2, np.float32)}, folder / name)
    return Checkpoint({path.name: path for path in folder.iterdir()})


def test_a_shard_that_the_index_lists_is_named_when_it_is_missing(tmp_path: Path) -> None:
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    checkpoint = shards(tmp_path, names["a"])
    with pytest.raises(InvalidRequest, match=r"model-00002-of-00002\.safetensors is missing, which .* lists"):
        checkpoint.tensors()


def test_a_missing_shard_is_noticed_without_an_index(tmp_path: Path) -> None:
    checkpoint = shards(tmp_path, "model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors")
    with pytest.raises(InvalidRequest, match=r"model-00002-of-00003\.safetensors is missing"):
        checkpoint.tensors()


def test_a_tensor_that_the_index_lists_is_named_when_its_shard_lacks_it(tmp_path: Path) -> None:
    index = {"weight_map": {"model.safetensors": "model.safetensors", "lost": "model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidRequest, match=r"model\.safetensors: tensor 'lost' is missing"):
        shards(tmp_path, "model.safetensors").tensors()


@pytest.mark.parametrize("index", [[], {"weight_map": []}, {"weight_map": {"a": 7}}])
def test_an_index_of_another_form_is_named(tmp_path: Path, index: object) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidRequest, match=r"model\.safetensors\.index\.json"):
        shards(tmp_path, "model.safetensors").tensors()


def test_the_makers_own_format_beside_the_hubs_is_left_alone(tmp_path: Path) -> None:
    assert set(shards(tmp_path, "consolidated.safetensors", "model.safetensors").tensors()) == {"model.safetensors"}


def test_configs_with_nan_and_a_bom_are_read_and_broken_ones_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('\ufeff{"a": NaN}', encoding="utf-8")
    assert set(Checkpoint({"config.json": tmp_path / "config.json"}).config) == {"a"}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InvalidRequest, match=r"config\.json: not valid JSON"):
        Checkpoint({"config.json": tmp_path / "config.json"})


def test_a_checkpoint_without_weights_says_so() -> None:
    with pytest.raises(InvalidRequest, match="unknown tensor format"):
        Checkpoint({}).tensors()
