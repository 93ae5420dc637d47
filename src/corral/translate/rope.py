"""Multi-dimensional RoPE (M-RoPE): how many of a head's dimensions turn with time, height and width."""

from __future__ import annotations

from corral.errors import UntranslatableModel
from corral.gguf.types import ValueType
from corral.translate.view import View

_SECTIONS = 4  # llama.cpp's count; the files have three, and the last has no dimensions


def set_sections(view: View, *keys: str) -> bool:
    """Set `rope.dimension_sections` of the view's architecture from the first of the source's `keys` that is there."""
    for key in keys:
        sections = view.integers(key)
        if not sections:
            continue
        if len(sections) not in (_SECTIONS - 1, _SECTIONS):
            raise UntranslatableModel(
                f"key {key!r}", f"has {len(sections)} sections, not {_SECTIONS - 1} or {_SECTIONS}"
            )
        padded = sections + [0] * (_SECTIONS - len(sections))
        view.put_array(f"{view.architecture}.rope.dimension_sections", ValueType.INT32, padded)
        return True
    return False
