"""What must hold before a model is loaded: ranges, thinking, capabilities. Called by generate.py and chat.py.

The order is Ollama's: range of top_logprobs, model, unload, image models, raw, think, capabilities, options.
Source of order and texts: ollama server/routes.go GenerateHandler, ChatHandler, 2026-08.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from corral.core import Capability, Common, GenerationParameters, Notice, Think
from corral.errors import InvalidRequest, UnsupportedCapability
from corral.inference.preparing.sounds import is_sound
from corral.prompt.gorender import thinks
from corral.store.models import Model

log = logging.getLogger(__name__)
MOST_TOP_LOGPROBS = 20
_BUDGET_NEEDS_THINKING = 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'
_NO_IMAGES = "Multimodal data provided, but model does not support multimodal requests."


def check_top_logprobs(parameters: GenerationParameters) -> None:
    """Raise InvalidRequest unless top_logprobs is 0 to 20."""
    if not 0 <= parameters.top_logprobs <= MOST_TOP_LOGPROBS:
        raise InvalidRequest(f"top_logprobs must be between 0 and {MOST_TOP_LOGPROBS}", field="top_logprobs")


def check_makes_no_images(model: Model) -> None:
    """Raise InvalidRequest when the model is for making images."""
    if Capability.IMAGE in model.capabilities:
        raise InvalidRequest("image generation models are not currently supported", field="model")


def check_generates(model: Model, common: Common, verb: str) -> None:
    """Raise unless the model writes text; `verb` is chat or generate."""
    if Capability.COMPLETION not in model.capabilities:
        raise UnsupportedCapability(common.model, verb, f'"{common.model}" does not support {verb}')


def require(model: Model, capability: Capability) -> None:
    """Raise UnsupportedCapability, with the model's full name, unless the model can do this."""
    if capability not in model.capabilities:
        raise UnsupportedCapability(
            model.name.full, str(capability), f"{model.name.full} does not support {capability}"
        )


def require_tools(model: Model) -> None:
    """Raise UnsupportedCapability, in Ollama's words and with a hint beside them, unless the model was taught tools."""
    if Capability.TOOLS not in model.capabilities:
        hint = 'any model calls tools with CORRAL_GENERIC_TOOLS=1 set for the server, or "generic_tools": true'
        log.info("%s was asked for tools: %s in the request", model.name.short, hint)
        raise UnsupportedCapability(model.name.full, str(Capability.TOOLS), hint=f"{hint} in the request")


def check_media(model: Model, media: Sequence[bytes]) -> None:
    """Raise InvalidRequest unless the model takes these images and sounds; in Ollama's words where it takes neither.

    Raises UnsupportedCapability where it has the other sense than the one that is asked for.
    """
    if not media:
        return
    sounds = sum(map(is_sound, media))
    if sounds:
        _require_sense(model, Capability.AUDIO, "it hears no sounds")
    if not {Capability.VISION, Capability.AUDIO} & set(model.capabilities):
        raise InvalidRequest(_NO_IMAGES, field="images")
    if sounds < len(media):
        _require_sense(model, Capability.VISION, "it sees no images")


def _require_sense(model: Model, sense: Capability, without: str) -> None:
    if sense not in model.capabilities:
        why = f'"{model.name.short}" does not support {sense}: {without}'
        raise UnsupportedCapability(model.name.full, str(sense), why)


def decide_think(
    model: Model, common: Common, think: Think, *, unsupported: Literal["error", "told", "quiet"] = "error"
) -> tuple[Think, list[Notice]]:
    """Whether and how to think: a model that can does unless told not to.

    Raises UnsupportedCapability when thinking is asked of a model that cannot; unsupported: ChatRequest's.
    """
    if model.uses_harmony:
        return _harmony_think(model, think)
    can = Capability.THINKING in model.capabilities
    if think is None:
        return (True if can else None), []
    if can or think is False or think == 0:
        return think, []
    if unsupported == "quiet":
        return None, []
    if unsupported == "told":
        text = f"{model.name.short} does not support thinking; the request for it was ignored"
        return None, [Notice("think_ignored", text, {"model": model.name.short})]
    if isinstance(think, int) and not isinstance(think, bool):
        raise InvalidRequest(_BUDGET_NEEDS_THINKING, field="think")  # as Ollama words it, which knows no budgets
    why = f'"{common.model}" does not support thinking'
    if model.family == "qwen3" or "deepseek-r1" in model.name.model:
        why += ". Pull the model again to get the latest version with full thinking support"
    raise UnsupportedCapability(common.model, "thinking", why)


def _harmony_think(model: Model, think: Think) -> tuple[Think, list[Notice]]:
    """gpt-oss has three levels and no way not to think; what it cannot do is told."""
    facts = {"model": model.name.short}
    if think is None:
        return True, []
    if not thinks(think):
        text = f"{model.name.short} always thinks; the request not to was ignored"
        return True, [Notice("think_ignored", text, facts)]
    if think == "max":
        text = f'{model.name.short} knows "high" as its highest level of thinking; "max" was taken as that'
        return "high", [Notice("think_level_lowered", text, facts)]
    return think, []
