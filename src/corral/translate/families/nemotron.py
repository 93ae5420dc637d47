"""nemotron-3 super (latent experts, MTP) and the omni model, whose text is a nemotron_h or nemotron_h_moe.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_nemotron_h_moe, handle_nemotron_h_omni, 2026-08.
"""

from __future__ import annotations

from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family, has_tensor
from corral.translate.view import View

_LATENT_IN = ".ffn_latent_in.weight"
_TENSORS = {".ffn_latent_in.": ".ffn_latent_down.", ".ffn_latent_out.": ".ffn_latent_up."}


def _has_latent(header: GGUFHeader) -> bool:
    return any(tensor.name.endswith(_LATENT_IN) for tensor in header.tensors)


def _is_super(header: GGUFHeader) -> bool:
    return _has_latent(header) or has_tensor(header, "mtp.")


def _always(_header: GGUFHeader) -> bool:
    return True


def _experts(view: View) -> None:
    latent = next((info for info in view.header.tensors if info.name.endswith(_LATENT_IN)), None)
    if latent is not None:  # [embedding, latent]
        size = latent.shape[1] if len(latent.shape) > 1 else 0
        view.default(f"{view.architecture}.moe_latent_size", ValueType.UINT32, size)
    view.rename_tensors(_TENSORS)
    view.leave_out("mtp.")  # in a layout that the engine does not know


def _omni(view: View) -> None:
    experts = view.header.integer("expert_count") or view.header.integer("expert_used_count")
    view.text_only()
    view.become("nemotron_h_moe" if experts else "nemotron_h")
    _experts(view)


EXPERTS = Family("nemotron_h_moe", ("nemotron_h_moe",), _is_super, _experts)
OMNI = Family("nemotron_h_omni", ("nemotron_h_omni",), _always, _omni)
