"""Go's text/template, the part that prompt templates use: parse once, inspect, execute many times.

`prompt/gorender.py` executes templates, `store/` and `create/` check and inspect them. Spec: models.md §5.1 to §5.5.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from corral.errors import TemplateError
from corral.gotemplate.evaluator import Budget, Evaluator, Limits
from corral.gotemplate.nodes import (
    Action,
    Command,
    Field,
    Node,
    NodeList,
    Pipe,
    TemplateCall,
    cut_after_response,
    identifiers,
    walk,
)
from corral.gotemplate.parser import Parser
from corral.gotemplate.values import JSONList, JSONMap, NilJSONList, NilList, Struct, TypeNames

__all__ = ["Budget", "JSONList", "JSONMap", "NilJSONList", "NilList", "Struct", "Template", "TypeNames", "parse"]

MAX_OUTPUT = 64 * 1024 * 1024  # characters
MAX_SOURCE = 64 * 1024  # characters; the longest published template has some 20 thousand


@dataclass(frozen=True)
class Template:
    """A parsed template; immutable, safe to share and to cache."""

    source: str
    root: NodeList
    defined: Mapping[str, NodeList] = field(default_factory=dict)
    lenient: bool = False  # fields of nil are nil, as in Go without the option missingkey=zero

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Lower-cased names of all fields and variables, sub-templates included (spec models §5.3)."""
        trees = (self.root, *self.defined.values())
        return frozenset(name.lower() for tree in trees for name in identifiers(tree))

    def execute(
        self,
        data: Mapping[str, Any],
        *,
        max_output: int = MAX_OUTPUT,
        budget: Budget | None = None,
    ) -> str:
        """The text made of `data`; a key the root map lacks is nil, a field a Struct lacks a TemplateError.

        `max_output` counts characters printed and made by functions; `budget` is shared by all executions for one
        request, None = one of its own. A run over any limit is a TemplateError.
        """
        budget = budget or Budget()
        limits = Limits(max_output=max_output, max_steps=budget.steps, max_seconds=budget.seconds)
        evaluator = Evaluator(self.source, self.defined, limits, lenient=self.lenient)
        begin = time.monotonic()
        try:
            return evaluator.run(self.root, data)
        finally:
            budget.spend(evaluator.steps, time.monotonic() - begin)

    @cached_property
    def cut(self) -> Template:
        """This template without anything behind its first printed `.Response` (spec models §5.4).

        Ollama makes a new template of the cut tree and forgets the option missingkey=zero, so it is lenient.
        """
        return replace(self, root=cut_after_response(self.root), lenient=True)

    def walk(self) -> Iterator[tuple[Node, tuple[Node, ...]]]:
        """Every node of the root tree, in document order, with its ancestors, outermost first."""
        return walk(self.root)

    def contains(self, text: str) -> bool:
        """Whether the source has this text anywhere."""
        return text in self.source


def parse(text: str) -> Template:
    """Parses a template; raises TemplateError with line and column, or for one longer than MAX_SOURCE.

    One that names neither messages nor response gets `{{ .Response }}` at its end, as Ollama does (spec models §5.3).
    """
    if len(text) > MAX_SOURCE:
        raise TemplateError(f"template: longer than {MAX_SOURCE} characters")
    parsed = Parser(text).parse()
    for tree in (parsed.root, *parsed.defined.values()):
        if any(isinstance(node, TemplateCall) and node.pipe is None for node, _ in walk(tree)):
            raise TemplateError("undefined template specified")
    template = Template(text, parsed.root, parsed.defined)
    if template.identifiers & {"messages", "response"}:
        return template
    end = len(text)
    response = Action(end, Pipe(end, (Command(end, (Field(end, ("Response",)),)),)))
    return replace(template, root=replace(parsed.root, nodes=(*parsed.root.nodes, response)))
