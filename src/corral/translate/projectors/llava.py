"""Projectors of their own without a type, as those of old llava and bakllava: two layers, `mlp`.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_missing_llava_projector_type, 2026-08.
"""

from __future__ import annotations

from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Projector
from corral.translate.view import View

_TYPES = ("clip.projector_type", "clip.vision.projector_type")


def _recognizes(header: GGUFHeader) -> bool:
    return header.metadata.get("clip.has_vision_encoder") is True and not any(key in header.metadata for key in _TYPES)


def _plan(view: View) -> None:
    for key in view.header.spans:
        view.copy(key, key)
    view.take("")
    view.put("clip.projector_type", ValueType.STRING, "mlp")


PROJECTOR = Projector(_plan, sees=_recognizes, recognizes=_recognizes)
