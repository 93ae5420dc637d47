"""What a Go template shows about its model: tools, insert, thinking, and whether it can carry tool results back.

Source: ollama server/images.go goTemplateCapabilities and goTemplateHasToolRoundTrip, 2026-08.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache

from corral.core import Capability
from corral.errors import TemplateError
from corral.gotemplate import MAX_SOURCE, parse
from corral.gotemplate.detection import infer_tags

_log = logging.getLogger(__name__)
_RESULT_MARKS = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")


@dataclass(frozen=True, slots=True)
class GoTemplateTraits:
    """A Go template's text and what follows from it."""

    source: str
    capabilities: tuple[Capability, ...] = ()
    has_tool_round_trip: bool = False


def read_traits(source: str) -> GoTemplateTraits:
    """Inspect a template; one that does not parse has no capabilities, and the log says why."""
    return _read_traits(source) if len(source) <= MAX_SOURCE else _read_traits.__wrapped__(source)  # long ones not kept


@lru_cache(maxsize=256)
def _read_traits(source: str) -> GoTemplateTraits:
    try:
        template = parse(source)
    except TemplateError as error:
        _log.warning("a model's template is of no use: %s", error)
        return GoTemplateTraits(source)
    found = []
    if "tools" in template.identifiers:
        found.append(Capability.TOOLS)
    if "suffix" in template.identifiers:
        found.append(Capability.INSERT)
    if infer_tags(template):
        found.append(Capability.THINKING)
    round_trip = template.identifiers >= {"tools", "toolcalls"} and any(mark in source for mark in _RESULT_MARKS)
    return GoTemplateTraits(source, tuple(found), round_trip)
