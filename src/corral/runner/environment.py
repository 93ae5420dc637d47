"""What a runner may see of the environment. Apart from `Settings`, since a runner has no use for those."""

from __future__ import annotations

import os
from collections.abc import Mapping

_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONPATH", "XDG_RUNTIME_DIR", "TZ")
_PREFIXES = ("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "ROCM_", "HSA_", "GGML_", "VK_", "MTL_", "DYLD_")


def runner_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Where libraries are and which devices to use; no keys, no home."""
    environ = os.environ if environ is None else environ  # noqa: TID251  the runners' one place that may
    kept = {k: v for k, v in environ.items() if k in _VARIABLES or k.startswith(_PREFIXES)}
    return kept | {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1"}
