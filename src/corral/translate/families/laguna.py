"""laguna, early files.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_laguna, convert/convert_laguna.go, 2026-08.
As with olmo3, YaRN's attention factor has to be under the name by which the engine does not apply it twice. As in the
makers' converter, the token that ends a turn ends the answer and is no text.
"""

from __future__ import annotations

from corral.gguf import GGUFHeader
from corral.translate.family import Family
from corral.translate.view import View
from corral.translate.vocabulary import name_ends, set_token_types, token_types

_KEYS = {
    "laguna.rope.swa.dimension_count": "laguna.rope.dimension_count_swa",
    "laguna.rope.swa.freq_base": "laguna.rope.freq_base_swa",
    "laguna.rope.scaling.attn_factor": "laguna.rope.scaling.yarn_attn_factor",
    "laguna.rope.scaling.beta_fast": "laguna.rope.scaling.yarn_beta_fast",
    "laguna.rope.scaling.beta_slow": "laguna.rope.scaling.yarn_beta_slow",
}
_CONTROL = 3  # a type of tokens
_MARKS = ("laguna.rope.swa.dimension_count", "laguna.rope.swa.freq_base")


def _recognizes(header: GGUFHeader) -> bool:
    gates = any(tensor.name.endswith(".attn_g.weight") for tensor in header.tensors)
    return gates or any(key in header.metadata for key in _MARKS)


def _text(view: View) -> None:
    view.rename(_KEYS)
    view.rename_tensors({".attn_g.": ".attn_gate."})
    ends, types = name_ends(view), token_types(view)
    if types and ends:
        set_token_types(view, [_CONTROL if token in ends else kind for token, kind in enumerate(types)])


FAMILY = Family("laguna", ("laguna",), _recognizes, _text)
