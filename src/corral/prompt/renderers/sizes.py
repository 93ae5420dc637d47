"""Which size of Gemma 4 a model is: configs say only `gemma4`, and the sizes' prompts differ. Pure.

The model's name decides if it has a size in it, else the count of its parameters; without either it is small.
Source: ollama server/renderer_resolution.go, 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SMALL_NAMES, _LARGE_NAMES = ("e2b", "e4b"), ("12b", "26b", "31b")
_LARGE_FROM = 12_000_000_000
_COUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([KMB])", re.IGNORECASE)
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}


def sized_name(renderer: str, names: Iterable[str], parameter_size: str) -> str:
    """The renderer's name with its size, `gemma4` only; `names` of the model, the shortest first."""
    if renderer != "gemma4":
        return renderer
    for name in names:
        if any(size in name.lower() for size in _SMALL_NAMES):
            return "gemma4-small"
        if any(size in name.lower() for size in _LARGE_NAMES):
            return "gemma4-large"
    count = _COUNT.fullmatch(parameter_size)
    is_large = count is not None and float(count[1]) * _UNITS[count[2].upper()] >= _LARGE_FROM
    return "gemma4-large" if is_large else "gemma4-small"
