"""GGUF files: reading their headers, naming their types. Pure format knowledge; no store, no engine."""

from corral.gguf.header import GGUFArray, GGUFHeader, GGUFValue, TensorInfo
from corral.gguf.reader import is_gguf, read_header
from corral.gguf.types import format_parameter_size

__all__ = [
    "GGUFArray",
    "GGUFHeader",
    "GGUFValue",
    "TensorInfo",
    "format_parameter_size",
    "is_gguf",
    "read_header",
]
