"""8-bit checkpoints: values, scales of every kind, and what is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from corral.convert.quantized import dequantized
from corral.convert.weights import Array, Weight, widen_bfloat16
from corral.errors import InvalidRequest

FP8 = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 4]}}


def weight(name: str, values: Any, dtype: str = "F32") -> Weight:
    array = np.asarray(values, {"F32": np.float32, "I8": np.int8}.get(dtype, np.uint8))
    return Weight(name, array.shape, dtype, lambda a, b: array[a:b])


def undone(codes: Any, scale: Any, config: dict[str, Any], suffix: str = "_scale_inv", dtype: str = "F8_E4M3") -> Array:
    found = {"w.weight": weight("w.weight", codes, dtype)}
    if scale is not None:
        found[f"w.weight{suffix}"] = weight(f"w.weight{suffix}", scale)
    made, _ = dequantized(found, config)
    assert set(made) == {"w.weight"}
    parts = [made["w.weight"].rows(n, n + 1) for n in range(made["w.weight"].shape[0])]  # row by row as a writer may
    return widen_bfloat16(np.concatenate(parts))


@pytest.mark.parametrize(
    ("dtype", "code", "value"),
    [
        ("F8_E4M3", 0x38, 1.0),
        ("F8_E4M3", 0xB8, -1.0),
        ("F8_E4M3", 0x7E, 448.0),
        ("F8_E4M3", 0x08, 2.0**-6),
        ("F8_E4M3", 0x01, 2.0**-9),
        ("F8_E4M3", 0x7F, np.nan),
        ("F8_E5M2", 0x3C, 1.0),
        ("F8_E5M2", 0x7B, 57344.0),
        ("F8_E5M2", 0x01, 2.0**-16),
        ("F8_E5M2", 0x7C, np.inf),
        ("F8_E5M2", 0x7E, np.nan),
        ("I8", 0xFD, -3.0),
    ],
)
def test_codes_have_the_values_of_their_format(dtype: str, code: int, value: float) -> None:
    codes = np.array([[code]], np.uint8).view(np.int8) if dtype == "I8" else [[code]]
    np.testing.assert_array_equal(undone(codes, [1.0], {}, dtype=dtype), [[value]])


def test_block_scales_reach_a_last_block_that_is_not_full() -> None:
    codes = np.full((3, 6), 0x38)
    scale = [[1.0, 2.0], [4.0, 8.0]]
    want = [[1, 1, 1, 1, 2, 2], [1, 1, 1, 1, 2, 2], [4, 4, 4, 4, 8, 8]]
    np.testing.assert_array_equal(undone(codes, scale, FP8), want)


def test_block_scales_of_an_expert_stack() -> None:
    scale = np.arange(1, 5, dtype=np.float32).reshape(2, 1, 2)
    want = np.repeat(np.repeat(scale, 2, axis=1), 4, axis=2)
    np.testing.assert_array_equal(undone(np.full((2, 2, 8), 0x38), scale, FP8), want)


@pytest.mark.parametrize(
    ("scale", "want"),
    [
        (2.0, [[2, 2], [2, 2]]),
        ([2.0], [[2, 2], [2, 2]]),
        ([[2.0], [4.0]], [[2, 2], [4, 4]]),
        ([2.0, 4.0], [[2, 2], [4, 4]]),
    ],
)
@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"g": {"weights": {}}}},
        {"quant_method": "fbgemm_fp8"},
        {"quant_method": "modelopt", "quant_algo": "FP8"},
    ],
)
def test_scales_of_a_tensor_or_a_row(scale: Any, want: Any, settings: dict[str, Any]) -> None:
    codes, config = np.full((2, 2), 0x38), {"quantization_config": settings}
    np.testing.assert_array_equal(undone(codes, np.atleast_1d(scale), config, "_scale"), want)


def test_what_is_not_quantized_passes_and_scales_of_activations_go() -> None:
    found = {
        "norm.weight": weight("norm.weight", [1.0]),
        "w.weight": weight("w.weight", [[0x38]], "F8_E4M3"),
        "w.weight_scale_inv": weight("w.weight_scale_inv", [[1.0]]),
        "w.activation_scale": weight("w.activation_scale", [1.0]),
        "w.input_scale": weight("w.input_scale", [1.0]),
    }
    made, floats = dequantized(found, FP8)
    assert set(made) == {"norm.weight", "w.weight"}
    assert floats == ["w.weight"]
    assert made["w.weight"].is_bfloat


def test_a_model_that_is_not_quantized_keeps_names_that_look_like_scales() -> None:
    found = {"blk.k_scale": weight("blk.k_scale", [1.0]), "a_scale": weight("a_scale", [1.0])}
    assert dequantized(found, {}) == (found, [])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quant_method": "gptq"}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "bitsandbytes"}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors pack-quantized"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt NVFP4"),
        ({"quant_method": ["x"]}, "x"),
    ],
)
def test_a_quantization_that_cannot_be_undone_is_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=f"config.json: quantization .*{named}.* cannot be imported"):
        dequantized({}, {"quantization_config": settings})


@pytest.mark.parametrize("size", [7, [128], ["a", "b"], [0, 4], [2.5, 1]])
def test_a_block_size_that_is_none_is_named(size: Any) -> None:
    with pytest.raises(InvalidRequest, match="block size"):
        dequantized({}, {"quantization_config": {"quant_method": "fp8", "weight_block_size": size}})


def test_a_scale_that_does_not_fit_is_named_with_its_weight() -> None:
    with pytest.raises(InvalidRequest, match=r"w\.weight_scale_inv.*scales for 'w\.weight' of shape \[2, 8\]"):
        undone(np.zeros((2, 8)), np.ones((1, 3)), FP8)


def test_a_weight_without_its_scale_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"'w\.weight' is F8_E4M3 and has no scale"):
        undone(np.zeros((2, 2)), None, FP8)


def test_a_checkpoint_whose_config_keeps_silent_is_read_by_its_types() -> None:
    """As modelopt writes it: what it did stands in a file of its own."""
    found = {
        "w.weight": weight("w.weight", [[0x38, 0x40]], "F8_E4M3"),
        "w.weight_scale": weight("w.weight_scale", [2.0]),
        "w.input_scale": weight("w.input_scale", [1.0]),
    }
    made, eight_bit = dequantized(found, {})
    assert (set(made), eight_bit) == ({"w.weight"}, ["w.weight"])
    assert widen_bfloat16(made["w.weight"].read()).tolist() == [[2.0, 4.0]]
