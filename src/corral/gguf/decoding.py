"""Tensor data as float32, whatever its type. The arithmetic is libgguf's (ggml's own routines).

libgguf and gguf are imported when something is decoded that numpy cannot: a server that never does is 8 MB smaller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from corral.gguf.encoding import tensor_bytes


def decode(data: bytes, type_name: str, width: int) -> npt.NDArray[np.float32]:
    """Rows of `width` elements; raises ValueError for a type that holds no floats or that nobody can read."""
    if type_name == "F32":
        return np.frombuffer(data, "<f4").reshape(-1, width)
    if type_name == "F16":
        return np.frombuffer(data, "<f2").reshape(-1, width).astype(np.float32)
    if type_name == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(-1, width)
    import gguf
    import libgguf

    try:
        rows = np.frombuffer(data, np.uint8).reshape(-1, tensor_bytes((width,), type_name))
        decoded: npt.NDArray[Any] = libgguf.dequantize_rows(rows, gguf.GGMLQuantizationType[type_name], width)
    except (KeyError, ValueError) as error:
        raise ValueError(f"type {type_name} cannot be decoded") from error
    return np.asarray(decoded, np.float32)
