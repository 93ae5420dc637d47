"""What this processor can do that the engine's kernels know of, and a name for it. Reads /proc/cpuinfo; no engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

TILES = "amx_int8"
_CPU_INFO = Path("/proc/cpuinfo")
# feature as /proc/cpuinfo names it -> ggml's build options; Source: llama.cpp ggml/CMakeLists.txt, 2026-10
_X86: Mapping[str, tuple[str, ...]] = {
    "sse4_2": ("GGML_SSE42",),
    "avx": ("GGML_AVX",),
    "avx2": ("GGML_AVX2",),
    "fma": ("GGML_FMA",),
    "f16c": ("GGML_F16C",),
    "bmi2": ("GGML_BMI2",),
    "avx_vnni": ("GGML_AVX_VNNI",),
    "avx512f": ("GGML_AVX512",),
    "avx512vbmi": ("GGML_AVX512_VBMI",),
    "avx512_vnni": ("GGML_AVX512_VNNI",),
    "avx512_bf16": ("GGML_AVX512_BF16",),
    TILES: ("GGML_AMX_TILE", "GGML_AMX_INT8"),
}
_BUILT_IN = frozenset({"sse4_2", "avx", "avx2", "fma", "f16c", "bmi2"})  # what the engine's wheel has on x86-64
# feature -> part of -march, in the order in which gcc wants them
_ARM: Mapping[str, str] = {"asimddp": "dotprod", "asimdhp": "fp16", "i8mm": "i8mm", "sve": "sve", "sve2": "sve2"}


def features(cpu_info: str | None = None) -> tuple[str, ...]:
    """Those that the kernels can be built for, in the order of the tables; empty where nobody can say."""
    text = _read() if cpu_info is None else cpu_info
    lines = (line.partition(":") for line in text.splitlines())
    has = next((set(words.split()) for name, _, words in lines if name.strip() in {"flags", "Features"}), set())
    return tuple(name for name in (*_X86, *_ARM) if name in has)


def beyond_the_wheel(found: tuple[str, ...]) -> tuple[str, ...]:
    """The features that the engine's own kernels leave unused."""
    return tuple(name for name in found if name not in _BUILT_IN)


def build_options(found: tuple[str, ...]) -> dict[str, str]:
    """CMake options that make kernels for these features and no others."""
    arm = [part for name, part in _ARM.items() if name in found]
    if arm:
        return {"GGML_CPU_ARM_ARCH": "+".join(["armv8.6-a" if "i8mm" in arm else "armv8.2-a", *arm])}
    return {option: "ON" if name in found else "OFF" for name, options in _X86.items() for option in options}


def processor_name(found: tuple[str, ...]) -> str:
    """A name under which kernels for exactly these features are kept."""
    return f"{os.uname().machine}-{hashlib.sha256(' '.join(found).encode()).hexdigest()[:8]}"


def _read() -> str:
    try:
        return _CPU_INFO.read_text(errors="replace")
    except OSError:
        return ""
