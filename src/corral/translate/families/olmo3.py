"""olmo-3 and 3.1, loaded as olmo2. Source: ollama llama/compat/llama-ollama-compat.cpp handle_olmo3, 2026-08.

YaRN's attention factor is in the file under the name of a factor that the engine multiplies with YaRN's own; under the
name that the makers' converter uses it is the same factor, as transformers computes it.
"""

from __future__ import annotations

from corral.gguf import GGUFHeader
from corral.translate.family import Family
from corral.translate.view import View


def _always(_header: GGUFHeader) -> bool:
    return True


def _text(view: View) -> None:
    view.become("olmo2")
    view.rename({"olmo2.rope.scaling.attn_factor": "olmo2.rope.scaling.yarn_attn_factor"})


FAMILY = Family("olmo3", ("olmo3",), _always, _text)
