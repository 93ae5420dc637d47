"""mistral-small 3.1 and 3.2, ministral-3, devstral-small-2 and devstral-2.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_mistral3, 2026-08.
"""

from __future__ import annotations

from corral.gguf import GGUFHeader
from corral.translate.family import Family, has_tensor
from corral.translate.view import View
from corral.translate.vocabulary import lacks_pre, set_pre

_KEYS = {
    "mistral3.rope.scaling.beta_fast": "mistral3.rope.scaling.yarn_beta_fast",
    "mistral3.rope.scaling.beta_slow": "mistral3.rope.scaling.yarn_beta_slow",
    "mistral3.rope.scaling.mscale_all_dim": "mistral3.rope.scaling.yarn_log_multiplier",
    "mistral3.rope.scaling_beta": "mistral3.attention.temperature_scale",
}
_SCALING = "mistral3.rope.scaling.type"


def _recognizes(header: GGUFHeader) -> bool:
    named = any(key in header.metadata for key in _KEYS) or header.metadata.get(_SCALING) == ""
    return named or has_tensor(header, "v.", "mm.")


def _text(view: View) -> None:
    view.rename(_KEYS)
    if view.header.metadata.get(_SCALING) == "":
        view.drop(_SCALING)  # of checkpoints without scaling; the engine aborts at a type that it does not know
    if lacks_pre(view.header):
        set_pre(view, "tekken")
    view.text_only()


FAMILY = Family("mistral3", ("mistral3",), _recognizes, _text)
