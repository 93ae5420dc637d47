"""What a Go template shows about its model: tools, insert, thinking, and whether it can carry tool results back.

Source: ollama server/images.go goTemplateCapabilities and goTemplateHasToolRoundTrip, thinking/template.go InferTags,
2026-08.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from corral.core import Capability
from corral.errors import TemplateError
from corral.gotemplate import Template, parse
from corral.gotemplate.nodes import Field, Node, NodeList, Range, Text, walk

_log = logging.getLogger(__name__)
_RESULT_MARKS = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")


@dataclass(frozen=True, slots=True)
class GoTemplateTraits:
    """A Go template's text and what follows from it."""

    source: str
    capabilities: tuple[Capability, ...] = ()
    has_tool_round_trip: bool = False


@lru_cache(maxsize=256)
def read_traits(source: str) -> GoTemplateTraits:
    """Inspect a template; one that does not parse has no capabilities, and the log says why."""
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
    if all(thinking_tags(template)):
        found.append(Capability.THINKING)
    round_trip = template.identifiers >= {"tools", "toolcalls"} and any(mark in source for mark in _RESULT_MARKS)
    return GoTemplateTraits(source, tuple(found), round_trip)


def thinking_tags(template: Template) -> tuple[str, str]:
    """The texts around `{{ .Thinking }}` inside `range .Messages`: opening and closing tag, empty when not found.

    They are the first and the last text of the nearest enclosing list of nodes; later finds override earlier ones.
    """
    opening = closing = ""
    for node, ancestors in template.walk():
        if not (isinstance(node, Field) and node.names[0] == "Thinking" and _in_messages(ancestors)):
            continue
        around = next(ancestor for ancestor in reversed(ancestors) if isinstance(ancestor, NodeList))
        first, last = around.nodes[0], around.nodes[-1]
        opening = first.text.strip() if isinstance(first, Text) else opening
        closing = last.text.strip() if isinstance(last, Text) else closing
    return opening, closing


def _in_messages(ancestors: Sequence[Node]) -> bool:
    loop = next((ancestor for ancestor in reversed(ancestors) if isinstance(ancestor, Range)), None)
    if loop is None:
        return False
    return any(isinstance(node, Field) and node.names[0] == "Messages" for node, _ in walk(loop.pipe))
