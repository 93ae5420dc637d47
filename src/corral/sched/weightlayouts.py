"""Which tensors the CPU's kernels lay out anew as they are loaded, and how much room they take then. Used by memory.py.

Sources: llama.cpp ggml-cpu/repack.cpp and ggml-cpu/amx/mmq.cpp, 2026-10.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

# Repacked: on x86 these, Q2_K with AVX-512 only; on ARM, where the kernels know dotprod, three more.
REPACKED_TYPES = frozenset({"Q4_0", "Q4_K", "Q2_K", "IQ4_NL", "MXFP4"}) | (
    frozenset({"Q8_0", "Q5_K", "Q6_K"}) if platform.machine() in {"aarch64", "arm64"} else frozenset()
)
# For AMX: type -> bytes there for each byte in the file. What is not among them is repacked.
TILED_TYPES: Mapping[str, float] = {
    "Q4_0": 1.0,
    "Q4_1": 1.0,
    "Q8_0": 38 / 34,
    "Q4_K": 148 / 144,
    "Q5_K": 180 / 176,
    "Q6_K": 1.0,
    "IQ4_XS": 138 / 136,
    "F16": 1.0,
}
COPIED_WITH_TILES = REPACKED_TYPES | TILED_TYPES.keys()
