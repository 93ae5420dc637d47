"""qwen3.5 and qwen3.6, dense and of experts; qwen3-next. Source: ollama llama/compat/llama-ollama-compat.cpp, 2026-08.

The multi-token prediction (MTP) layers that a file may carry become blocks behind the text's own: see mtp.py.
"""

from __future__ import annotations

from corral.gguf import GGUFArray, GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.families.mtp import move_mtp
from corral.translate.family import Family, has_tensor
from corral.translate.rope import set_sections
from corral.translate.view import View

_KV_HEADS_UNKNOWN = 2  # where the file gives every layer none


def _has_bare_dt(header: GGUFHeader) -> bool:
    return any(tensor.name.endswith(".ssm_dt") for tensor in header.tensors)


def _recognizes(header: GGUFHeader) -> bool:
    sections = header.get("rope.dimension_sections")
    short = isinstance(sections, GGUFArray) and sections.length == 3
    return short or _has_bare_dt(header) or has_tensor(header, "v.", "mm.", "mtp.")


def _text(view: View) -> None:
    _one_kv_head_count(view, _KV_HEADS_UNKNOWN)
    set_sections(view, f"{view.architecture}.rope.dimension_sections", f"{view.architecture}.rope.mrope_section")
    move_mtp(view)
    _name_dt(view)
    view.text_only()


def _next(view: View) -> None:
    _one_kv_head_count(view, 0)
    _name_dt(view)
    view.leave_out("mtp.")


def _one_kv_head_count(view: View, unknown: int) -> None:
    """A number instead of one a layer, where recurrent layers have none: those with attention all have the same."""
    key = f"{view.architecture}.attention.head_count_kv"
    if not isinstance(view.header.metadata.get(key), GGUFArray):
        return
    most = max(view.integers(key), default=0) or unknown
    if most:
        view.put(key, ValueType.UINT32, most)


def _name_dt(view: View) -> None:
    view.rename_ends({".ssm_dt": ".ssm_dt.bias"})


DENSE = Family("qwen35", ("qwen35",), _recognizes, _text)
EXPERTS = Family("qwen35moe", ("qwen35moe",), _recognizes, _text)
NEXT = Family("qwen3next", ("qwen3next",), _has_bare_dt, _next)
