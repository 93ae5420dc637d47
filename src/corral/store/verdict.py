"""`judge`: whether this server's engine can run a model, and what of it, told from the header of its weights alone.

Asked before gigabytes are fetched (registry), when a model is shown or listed, and before it is loaded. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from corral.errors import CorralError
from corral.gguf import GGUFHeader
from corral.gguf.architectures import ENGINE_ARCHITECTURES
from corral.goquote import quote
from corral.store.modelconfig import ModelConfig
from corral.translate import recognize

_ADVICE = "a newer Corral may know it; else look for another build of the model, as a GGUF for llama.cpp"
# What to say instead, where more is known. Source of mllama's: ollama server/routes.go scheduleRunner, 2026-08.
_ADVICE_FOR: Mapping[str, str] = {
    "mllama": "neither llama3.2-vision's first files nor those that replaced them run on llama.cpp; "
    "gemma3, qwen3-vl and mistral-small3.2 are models that see and run here",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What this server can do with a model; `why_not` is empty when it runs."""

    why_not: str = ""
    sees: bool = False
    hears: bool = False
    is_translated: bool = False  # its file is written anew for the engine first

    @property
    def runs(self) -> bool:
        """Whether the engine loads it."""
        return not self.why_not

    def __str__(self) -> str:
        """A few words for a person: `runs here, sees images`, `cannot run here: …`."""
        if not self.runs:
            return f"cannot run here: {self.why_not}"
        return ", ".join(["runs here", *["sees images"] * self.sees, *["hears sounds"] * self.hears])


def judge(
    header: GGUFHeader | None, config: ModelConfig, *, has_projector: bool, engine_is_ours: bool = True
) -> Verdict:
    """The verdict on a model by the header of its weights (None: it has none).

    has_projector: it has a projector layer. engine_is_ours: False for a server with an engine of its owner's choice,
    which may know other architectures.
    """
    if header is None:
        return Verdict(_without_header(config))
    if engine_is_ours and "mllama" in {header.architecture, *config.families}:
        return Verdict(_unknown("mllama"))
    layout = recognize(header)
    if layout is None:
        if engine_is_ours and header.architecture not in ENGINE_ARCHITECTURES:
            return Verdict(_unknown(header.architecture))
        return Verdict(sees=has_projector)
    try:
        layout.text_plan()
        projector = layout.projector_plan()
    except (CorralError, OSError) as error:
        return Verdict(str(error))
    return Verdict("", has_projector or (projector is not None and layout.sees), layout.hears, is_translated=True)


def _without_header(config: ModelConfig) -> str:
    if config.is_remote:
        return "it runs in Ollama's cloud, and Corral has none"
    if config.is_gguf:
        return "its weights are missing or unreadable"
    return f"its weights are no GGUF but {config.model_format}, and nothing else runs here"


def _unknown(architecture: str) -> str:
    advice = _ADVICE_FOR.get(architecture, _ADVICE)
    return f"its architecture, {quote(architecture)}, is not one that this server's engine knows; {advice}"
