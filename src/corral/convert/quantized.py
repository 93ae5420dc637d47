"""Checkpoints that hold 8-bit weights with scales: read as bfloat16, a piece at a time. Used by model.py.

| quant_method       | scale tensors                 | one scale for                                        |
|--------------------|-------------------------------|------------------------------------------------------|
| fp8                | X_scale_inv                   | a block of `weight_block_size`, or the whole tensor  |
| compressed-tensors | X_scale (8-bit formats only)  | a row, a block of `block_structure`, or the tensor   |
| fbgemm_fp8         | X_scale                       | a row                                                |
| modelopt           | X_scale (FP8 only)            | the tensor                                           |

MXFP4 (gpt-oss) is repacked without loss by its family. Sources: transformers quantizers, compressed-tensors, 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from corral.convert.weights import Array, Weight, as_float32, round_bfloat16
from corral.errors import InvalidRequest

_SCALES = ("_scale_inv", "_scale")
_OF_ACTIVATIONS = ("input_scale", "output_scale", "activation_scale", ".k_scale", ".v_scale", ".q_scale", "_zero_point")
_EIGHT_BITS = ("F8_E4M3", "F8_E5M2", "I8")
_PLAIN_FORMATS = ("float-quantized", "int-quantized", "naive-quantized")


def dequantized(weights: Mapping[str, Weight], config: Mapping[str, Any]) -> tuple[dict[str, Weight], list[str]]:
    """The weights with scales applied and scale tensors gone, and the names of those that were 8-bit floats.

    Raises InvalidRequest for a quantization that cannot be undone here, naming it, and for a scale that does not fit.
    """
    settings = config.get("quantization_config") or config.get("compression_config")
    settings = settings if isinstance(settings, dict) else {}
    block = _block_of(settings)
    is_quantized = bool(settings) or any(weight.dtype in _EIGHT_BITS for weight in weights.values())
    kept = {name: weight for name, weight in weights.items() if not (is_quantized and name.endswith(_OF_ACTIVATIONS))}
    found: dict[str, Weight] = {}
    floats = []
    for name, weight in kept.items():
        if weight.dtype not in _EIGHT_BITS:
            if not _is_scale(name, kept):
                found[name] = weight
            continue
        scale = next((kept[name + suffix] for suffix in _SCALES if name + suffix in kept), None)
        if scale is None and settings:
            raise InvalidRequest(f"tensor {name!r} is {weight.dtype} and has no scale beside it", field="files")
        found[name] = _scaled(weight, scale, block)
        if weight.dtype != "I8":
            floats.append(name)
    return found, sorted(floats)


def _block_of(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """The block that one scale is for, () where the shapes tell. Raises InvalidRequest for unknown methods."""
    method = settings.get("quant_method")
    if method in (None, "fbgemm_fp8", "mxfp4"):  # a list: what a config says need not be hashable
        return ()
    if method == "fp8":
        return _sizes(settings.get("weight_block_size"))
    if method == "modelopt" and "FP8" in str(settings.get("quant_algo", "")):
        return ()
    if method == "compressed-tensors" and settings.get("format") in _PLAIN_FORMATS:
        groups = settings.get("config_groups")
        first: Any = next(iter(groups.values()), None) if isinstance(groups, dict) else None
        weights = first.get("weights") if isinstance(first, dict) else None
        return _sizes(weights.get("block_structure") if isinstance(weights, dict) else None)
    named = " ".join(str(part) for part in (method, settings.get("format") or settings.get("quant_algo")) if part)
    raise InvalidRequest(
        f"config.json: quantization {named!r} cannot be imported; import the unquantized checkpoint, or a GGUF",
        field="files",
    )


def _sizes(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    if isinstance(value, list) and len(value) == 2 and all(isinstance(n, int) and n > 0 for n in value):
        return tuple(value)
    raise InvalidRequest(f"config.json: block size {value!r} is not a pair of numbers", field="files")


def _is_scale(name: str, weights: Mapping[str, Weight]) -> bool:
    for suffix in _SCALES:
        owner = weights.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
        if owner is not None and owner.dtype in _EIGHT_BITS:
            return True
    return False


def _scaled(weight: Weight, scale: Weight | None, block: tuple[int, ...]) -> Weight:
    table = _TABLES.get(weight.dtype)
    factors = _Factors(weight, scale, block) if scale is not None else None

    def rows(start: int, stop: int) -> Array:
        values = weight.rows(start, stop)
        floats = table[values] if table is not None else values.astype(np.float32)
        if factors is not None:
            floats *= factors.rows(start, stop)
        return round_bfloat16(floats)

    return Weight(weight.name, weight.shape, "BF16", rows, is_bfloat=True)


class _Factors:
    """The scales of one tensor, spread over ranges of its rows."""

    def __init__(self, weight: Weight, scale: Weight, block: tuple[int, ...]) -> None:
        values = as_float32(scale.read(), scale.dtype)
        shape = weight.shape
        if values.size == 1:
            values = values.reshape((1,) * len(shape))
        elif values.shape == shape[: values.ndim]:  # one a row, or one an expert
            values = values.reshape(*values.shape, *[1] * (len(shape) - values.ndim))
        self._values = values
        self._block = self._block_along(weight, scale, block)
        self._shape = shape

    def _block_along(self, weight: Weight, scale: Weight, block: tuple[int, ...]) -> tuple[int, ...]:
        """How many entries one scale is for, per axis; 0 = all of them."""
        shape, have = weight.shape, self._values.shape
        sizes = (*[1] * (len(shape) - 2), *block) if block else (1,) * len(shape)
        if len(have) == len(shape):
            along = tuple(0 if n == 1 else size for n, size in zip(have, sizes, strict=True))
            need = tuple(1 if size == 0 else -(-n // size) for n, size in zip(shape, along, strict=True))
            if need == have:
                return along
        raise scale.wrong_shape(f"scales for {weight.name!r} of shape {list(shape)}")

    def rows(self, start: int, stop: int) -> Array:
        values = self._values
        first = self._block[0]
        if first:
            values = values[np.arange(start, stop) // first]
        for axis, size in enumerate(self._block[1:], 1):
            if size > 1:
                values = np.repeat(values, size, axis)[(slice(None),) * axis + (slice(0, self._shape[axis]),)]
        return values


def _table(exponent_bits: int, mantissa_bits: int, bias: int, *, is_finite: bool) -> Array:
    """float32 values of the 256 codes of an 8-bit float. `is_finite` (E4M3FN): no infinities, one NaN code."""
    codes = np.arange(256, dtype=np.int32)
    exponent = (codes >> mantissa_bits) & (2**exponent_bits - 1)
    mantissa = (codes & (2**mantissa_bits - 1)) / 2.0**mantissa_bits
    normal = (1.0 + mantissa) * 2.0 ** (exponent - bias)
    values = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), normal)
    top = exponent == 2**exponent_bits - 1
    if is_finite:
        values[(codes & 0x7F) == 0x7F] = np.nan
    else:
        values[top] = np.where(mantissa[top] == 0, np.inf, np.nan)
    return np.asarray(np.where(codes & 0x80, -values, values), np.float32)


_TABLES = {"F8_E4M3": _table(4, 3, 7, is_finite=True), "F8_E5M2": _table(5, 2, 15, is_finite=False)}
