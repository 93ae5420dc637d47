"""Parsed Go templates, kept: a model's own, and those that requests bring. Called by generate.py and chat.py.

A long one takes a tenth of a second to parse: whoever may be the first to ask runs this on `aio.run_computing`.
"""

from __future__ import annotations

from functools import lru_cache

from corral.gotemplate import Template, parse
from corral.prompt.gorender import DEFAULT_TEMPLATE
from corral.store.models import Model


@lru_cache(maxsize=16)
def go_template(source: str) -> Template:
    """The parsed template; raises TemplateError with line and column."""
    return parse(source)


def model_template(model: Model) -> Template:
    """The model's Go template, `{{ .Prompt }}` when it has none; raises TemplateError."""
    return DEFAULT_TEMPLATE if model.template is None else go_template(model.template)
