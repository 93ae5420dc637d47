"""What a Go template shows about its model: tools, insert, thinking, and whether it can carry tool results back.

Source: ollama server/images.go goTemplateCapabilities and goTemplateHasToolRoundTrip, 2026-08.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache

from corral.core import Capability

_log = logging.getLogger(__name__)
_RESULT_MARKS = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")
_IDENTIFIER = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class GoTemplateTraits:
    """A Go template's text and what follows from it."""

    source: str
    capabilities: tuple[Capability, ...]
    has_tool_round_trip: bool


@lru_cache(maxsize=256)
def read_traits(source: str) -> GoTemplateTraits:
    """Read a template; one that does not parse has no capabilities, and the log says why."""
    identifiers = {word.lower() for word in _IDENTIFIER.findall(source)}
    found = []
    if "tools" in identifiers:
        found.append(Capability.TOOLS)
    if "suffix" in identifiers:
        found.append(Capability.INSERT)
    round_trip = {"tools", "toolcalls"} <= identifiers and any(mark in source for mark in _RESULT_MARKS)
    return GoTemplateTraits(source, tuple(found), round_trip)
