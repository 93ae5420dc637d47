"""What a Go template's tree gives away about its model. Used by `store/` for capabilities and by `answer/` to parse."""

from __future__ import annotations

from collections.abc import Sequence

from corral.gotemplate import Template
from corral.gotemplate.nodes import Field, Node, NodeList, Range, Text, walk


def infer_tags(template: Template) -> tuple[str, str] | None:
    """The tags around `.Thinking` in a range over `.Messages`; None unless both are there (spec models §5.5).

    They are the first and the last text of the nearest enclosing list of nodes; later finds override earlier ones.
    Source: ollama thinking/template.go InferTags, 2026-08.
    """
    opening = closing = ""
    for node, ancestors in template.walk():
        if not (isinstance(node, Field) and node.names[0] == "Thinking" and _in_messages(ancestors)):
            continue
        nodes = next(ancestor.nodes for ancestor in reversed(ancestors) if isinstance(ancestor, NodeList))
        first, last = nodes[0], nodes[-1]
        opening = first.text.strip() if isinstance(first, Text) else opening
        closing = last.text.strip() if isinstance(last, Text) else closing
    return (opening, closing) if opening and closing else None


def _in_messages(ancestors: Sequence[Node]) -> bool:
    loop = next((ancestor for ancestor in reversed(ancestors) if isinstance(ancestor, Range)), None)
    if loop is None:
        return False
    return any(isinstance(node, Field) and node.names[0] == "Messages" for node, _ in walk(loop.pipe))
