"""MTP layers in Ollama's naming (`mtp.…`) become llama.cpp's NextN blocks behind the text's own, where drafts use them.

Source: ollama llama/compat/llama-ollama-compat.cpp apply_qwen35_mtp_fixes, 2026-08. Experts come as single matrices
and are stacked; norms were stored without the 1 that the engine expects to be in them.
"""

from __future__ import annotations

import re

from corral.errors import UntranslatableModel
from corral.gguf.types import ValueType
from corral.translate.recipes import Recipe, passed, stacked, widened
from corral.translate.view import MAX_LAYERS, View

_BLOCK = re.compile(r"blk\.(\d{1,9})\..*", re.DOTALL)
_LAYER = re.compile(r"mtp\.layers\.(\d{1,9})\.(.+)", re.DOTALL)
_EXPERT = re.compile(r"mlp\.experts\.(\d{1,9})\.(gate|up|down)_proj\.weight")
_SHARED = {
    "mtp.fc.weight": "nextn.eh_proj.weight",
    "mtp.pre_fc_norm_embedding.weight": "nextn.enorm.weight",
    "mtp.pre_fc_norm_hidden.weight": "nextn.hnorm.weight",
    "mtp.embed_tokens.weight": "nextn.embed_tokens.weight",
    "mtp.shared_head.head.weight": "nextn.shared_head_head.weight",
    "mtp.shared_head.norm.weight": "nextn.shared_head_norm.weight",
    "mtp.norm.weight": "nextn.shared_head_norm.weight",
}
_NORMS = ("_norm.weight", ".nextn.enorm.weight", ".nextn.hnorm.weight")


def move_mtp(view: View) -> None:
    """Turn the source's `mtp.` tensors into NextN blocks; they are left out where that cannot be done.

    It cannot where there are several layers, which would share what the engine wants a layer.
    """
    sources = view.sources("mtp.")
    view.leave_out("mtp.")
    has_nextn = any(".nextn." in name for name in view.tensors)
    layers = {int(found[1]) for info in sources if (found := _LAYER.fullmatch(info.name))}
    if not sources or has_nextn or layers != {0}:
        return
    block = _text_blocks(view)
    experts: dict[str, dict[int, str]] = {}
    for info in sources:
        found = _LAYER.fullmatch(info.name)
        suffix = found[2] if found else _SHARED.get(info.name)
        if suffix is None:
            continue  # nothing that the engine knows
        if expert := _EXPERT.fullmatch(suffix):
            experts.setdefault(expert[2], {})[int(expert[1])] = info.name
        else:
            view.add(_with_one(passed(info, f"blk.{block}.{suffix}")))
    for kind, names in experts.items():
        view.add(_stack(view, f"blk.{block}.ffn_{kind}_exps.weight", names))
    view.put(f"{view.architecture}.nextn_predict_layers", ValueType.UINT32, 1)
    view.put(f"{view.architecture}.block_count", ValueType.UINT32, block + 1)


def _text_blocks(view: View) -> int:
    blocks = [int(found[1]) for name in view.tensors if (found := _BLOCK.fullmatch(name))]
    count = max(blocks) + 1 if blocks else view.integer(f"{view.architecture}.block_count")
    if not 0 < count < MAX_LAYERS:
        raise UntranslatableModel(f"key '{view.architecture}.block_count'", f"{count} blocks cannot be")
    return count


def _with_one(recipe: Recipe) -> Recipe:
    return widened(recipe, shift=1.0) if recipe.name.endswith(_NORMS) else recipe


def _stack(view: View, name: str, experts: dict[int, str]) -> Recipe:
    for number in range(len(experts)):
        if number not in experts:
            raise UntranslatableModel(f"tensor {name!r}", f"expert {number} of {len(experts)} is missing")
    return stacked(name, [view.need(experts[number]) for number in range(len(experts))])
