"""What a model can do, and which of its two chat templates is used: pure functions over headers, configs and templates.

Two lists exist, because Ollama has two: `runtime_capabilities` (show, and what requests are checked against) follows
the template that will be used; `tags_capabilities` (the model list) reads the Go template and never the Jinja one.
Source: ollama server/images.go and server/model_list_cache.go, 2026-08, but read from the whole GGUF header.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from corral.core import Capability
from corral.gguf import GGUFHeader
from corral.parsernames import PARSERS
from corral.store.gotemplates import GoTemplateTraits
from corral.store.modelconfig import SAFETENSORS_FORMAT, ModelConfig
from corral.translate import Layout

SelectedTemplate = Literal["go", "jinja", "none"]

_log = logging.getLogger(__name__)

_HARMONY_FAMILIES = {"gptoss", "gpt-oss"}
_ROLE_IS_TOOL = tuple(
    template.format(quote=quote)
    for template in (
        "role'] == {quote}tool{quote}",
        'role"] == {quote}tool{quote}',
        "message.role == {quote}tool{quote}",
    )
    for quote in ("'", '"')
)
_JINJA_TOOL_RESULTS = ("tool_response", "tool_results", "ipython", *_ROLE_IS_TOOL)


@dataclass(frozen=True, slots=True)
class Traits:
    """Everything the capabilities of a model follow from; headers are None when unreadable or absent."""

    config: ModelConfig
    header: GGUFHeader | None = None
    projectors: Sequence[GGUFHeader | None] = ()
    go_template: GoTemplateTraits | None = None  # None: no template layer
    go_template_setting: bool | None = None  # OLLAMA_GO_TEMPLATE; None: unset
    layout: Layout | None = None  # of the weights; None: the engine opens them as they are
    runs: bool = True  # whether the engine can load it at all

    @property
    def jinja(self) -> str:
        """The GGUF's own chat template, empty when there is none."""
        return self.header.chat_template if self.header else ""


def runtime_capabilities(traits: Traits) -> tuple[Capability, ...]:
    """What show lists and requests are checked against, in Ollama's order."""
    config = traits.config
    if not traits.runs:
        return ()
    found = [*_known(config.capabilities)]
    if traits.header is not None:
        if not is_rendered_here(traits):
            found += jinja_capabilities(traits.jinja)
        found += _generation_capability(traits.header)
        found += _tower_capabilities(traits.layout)
    found += _projector_capabilities(traits.projectors)
    if traits.go_template is not None and selected_template(traits) == "go":
        found += traits.go_template.capabilities
    found += parser_capabilities(config.parser)
    if config.model_family in _HARMONY_FAMILIES:
        found.append(Capability.THINKING)
    architecture = traits.header.architecture if traits.header else ""
    removed = _unsupported(config)
    if "nemotron_h_omni" in {architecture, *config.families}:
        removed.add(Capability.AUDIO)
    return _unique(found, removed)


def tags_capabilities(traits: Traits) -> tuple[Capability, ...]:
    """What the model list shows: the header first, then config, Go template or parser, projectors."""
    config = traits.config
    found: list[Capability] = []
    if traits.header is not None and not config.is_remote:
        found += _tower_capabilities(traits.layout)
        found += _generation_capability(traits.header)
    found += _known(config.capabilities)
    template = traits.go_template.capabilities if traits.go_template else ()
    parser = parser_capabilities(config.parser)
    if Capability.TOOLS in (*template, *parser):
        found.append(Capability.TOOLS)
    if Capability.INSERT in template:
        found.append(Capability.INSERT)
    if Capability.THINKING in (*template, *parser) or config.model_family in _HARMONY_FAMILIES:
        found.append(Capability.THINKING)
    if Capability.VISION in _projector_capabilities(traits.projectors):
        found.append(Capability.VISION)
    return _unique(found, _unsupported(config))


def selected_template(traits: Traits) -> SelectedTemplate:
    """Which template renders a chat: the Go one, the GGUF's Jinja, or none (no Go template and no Jinja)."""
    if traits.go_template is not None and _go_wanted(traits):
        return "go"
    return "jinja" if traits.jinja else "none"


def is_rendered_here(traits: Traits) -> bool:
    """Whether the prompt is built by us rather than by the engine's Jinja."""
    config = traits.config
    return bool(config.renderer or config.parser) or uses_harmony(traits) or selected_template(traits) == "go"


def uses_harmony(traits: Traits) -> bool:
    """Whether the model speaks gpt-oss' harmony format."""
    source = traits.go_template.source if traits.go_template else ""
    return traits.config.model_family in _HARMONY_FAMILIES and "<|start|>" in source and "<|end|>" in source


def jinja_capabilities(template: str) -> tuple[Capability, ...]:
    """Tools and thinking, as the text of a Jinja template shows them."""
    found = []
    if _jinja_has_tools(template):
        found.append(Capability.TOOLS)
    if _jinja_has_thinking(template):
        found.append(Capability.THINKING)
    return tuple(found)


def parser_capabilities(parser: str) -> tuple[Capability, ...]:
    """Tools and thinking, as a built-in output parser has them; none for an unknown name."""
    traits = PARSERS.get(parser)
    if traits is None:
        return ()
    return (Capability.TOOLS,) * traits.tools + (Capability.THINKING,) * traits.thinking


def _go_wanted(traits: Traits) -> bool:
    if traits.go_template_setting is not None:
        return traits.go_template_setting
    return not _prefers_jinja(traits)


def _prefers_jinja(traits: Traits) -> bool:
    config, go = traits.config, traits.go_template
    if go is None or not traits.jinja or config.renderer or config.parser or uses_harmony(traits):
        return False
    jinja_caps, go_caps = jinja_capabilities(traits.jinja), go.capabilities
    if len(jinja_caps) > len(go_caps):
        return not go.has_tool_round_trip or _jinja_has_tool_round_trip(traits.jinja)
    if set(jinja_caps) != set(go_caps) or Capability.TOOLS not in jinja_caps:
        return False
    return _jinja_has_tool_round_trip(traits.jinja) and not go.has_tool_round_trip


def _jinja_has_tools(template: str) -> bool:
    return "tools" in template or "tool_call" in template


def _jinja_has_thinking(template: str) -> bool:
    if "<think>" in template and "</think>" in template:
        return True
    splits = "content.split('</think>')" in template or 'content.split("</think>")' in template
    return splits and "reasoning_content" not in template and "<SPECIAL_12>" not in template


def _jinja_has_tool_round_trip(template: str) -> bool:
    calls = "tool_calls" in template or "assistant_tool_call" in template
    return _jinja_has_tools(template) and calls and any(mark in template for mark in _JINJA_TOOL_RESULTS)


def _generation_capability(header: GGUFHeader) -> list[Capability]:
    return [Capability.COMPLETION if header.get("pooling_type") is None else Capability.EMBEDDING]


def _tower_capabilities(layout: Layout | None) -> list[Capability]:
    """Of the encoders inside the weights, which the engine can use only once they are translated."""
    if layout is None:
        return []
    return [*[Capability.VISION] * layout.sees, *[Capability.AUDIO] * layout.hears]


def _projector_capabilities(projectors: Sequence[GGUFHeader | None]) -> list[Capability]:
    """Ollama takes every projector for eyes; here ears alone see nothing."""
    seen = [header for header in projectors if header is None or not header.has_audio_encoder or _has_eyes(header)]
    heard = [
        header
        for header in projectors
        if header and header.has_audio_encoder and header.text("vision.projector_type") != "gemma3nv"
    ]
    return [*([Capability.VISION] if seen else []), *([Capability.AUDIO] if heard else [])]


def _has_eyes(projector: GGUFHeader) -> bool:
    return projector.has_vision or bool(projector.text("vision.projector_type"))


def _known(names: Iterable[str]) -> list[Capability]:
    known = {str(capability): capability for capability in Capability}
    unknown = [name for name in names if name not in known]
    if unknown:
        _log.info("config names capabilities that Corral does not know: %s", ", ".join(unknown))
    return [known[name] for name in names if name in known]


def _unsupported(config: ModelConfig) -> set[Capability]:
    if config.model_format != SAFETENSORS_FORMAT:
        return set()
    gemma4 = config.renderer in {"gemma4", "gemma4-small", "gemma4-large"}
    nemotron = "nemotron-3-nano" in {config.parser, config.renderer} or "nemotron_h_omni" in config.families
    if gemma4 or nemotron:
        return {Capability.VISION, Capability.AUDIO}
    return {Capability.AUDIO} if config.renderer == "glimmer" else set()


def _unique(found: Iterable[Capability], removed: set[Capability]) -> tuple[Capability, ...]:
    return tuple(capability for capability in dict.fromkeys(found) if capability not in removed)
