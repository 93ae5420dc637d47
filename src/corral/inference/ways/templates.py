"""Parsed Go templates, kept: a model's own, and those that requests bring. Called by generate.py and chat.py."""

from __future__ import annotations

from functools import lru_cache

from corral.gotemplate import Template, parse
from corral.prompt.gorender import DEFAULT_TEMPLATE
from corral.store.models import Model

_LARGEST_KEPT = 64 * 1024  # characters


def go_template(source: str) -> Template:
    """The parsed template; raises TemplateError with line and column."""
    return parse(source) if len(source) > _LARGEST_KEPT else _parse(source)


def model_template(model: Model) -> Template:
    """The model's Go template, `{{ .Prompt }}` when it has none; raises TemplateError."""
    return DEFAULT_TEMPLATE if model.template is None else go_template(model.template)


@lru_cache(maxsize=64)
def _parse(source: str) -> Template:
    return parse(source)
