"""Which of the two ways a model's chats take, templated or rendered. Pure; asked by leasing.py, chat.py, generate.py.

The first line that fits:

| model                                              | way                          |
|----------------------------------------------------|------------------------------|
| its config names a renderer that we know           | rendered, by that renderer   |
| harmony (gpt-oss)                                  | rendered, by its Go template |
| names a renderer or parser that nobody knows, Jinja in its GGUF | templated       |
| Go template selected                               | rendered, by that template   |
| anything else                                      | templated; as ChatML where there is no template at all |

A parser that we know reads the answers of the rendered way. Source: ollama server/routes.go chatModeForModel,
server/prompt.go renderPrompt, 2026-08; an unknown renderer is an error there.
"""

from __future__ import annotations

from corral.core import Notice
from corral.parsernames import PARSERS
from corral.prompt.renderers.registry import Renderer, renderer
from corral.prompt.renderers.sizes import sized_name
from corral.store.models import Model

_SHOWN = 100  # characters of an unknown name


def renderer_of(model: Model) -> Renderer | None:
    """The renderer that the model's config names, None when it names none or one that nobody knows."""
    names = (model.name.short, model.name.full)
    return renderer(sized_name(model.config.renderer, names, model.parameter_size))


def parser_of(model: Model) -> str:
    """The name of the parser that the model's config names; "" when it names none or one that nobody knows."""
    name = model.config.parser
    return name if name in PARSERS else ""


def is_rendered(model: Model) -> bool:
    """Whether Corral renders the prompt itself."""
    if renderer_of(model) or model.uses_harmony:
        return True
    if _unknown(model) and model.traits.jinja:
        return False
    return model.selected_template == "go"


def way_notices(model: Model) -> list[Notice]:
    """What is different because the model names a renderer or parser that nobody here knows."""
    unknown = _unknown(model)
    notices = []
    if "renderer" in unknown:
        text = f"the model asks for the renderer {unknown['renderer']!r}, which Corral does not know; {_instead(model)}"
        notices.append(Notice("renderer_replaced", text, {"renderer": unknown["renderer"]}))
    if "parser" in unknown:
        read = "its answers come as it writes them" if renderer_of(model) else "its template shows how they are read"
        text = f"the model asks for the parser {unknown['parser']!r}, which Corral does not know; {read}"
        notices.append(Notice("parser_replaced", text, {"parser": unknown["parser"]}))
    return notices


def _unknown(model: Model) -> dict[str, str]:
    """The names that nobody here knows."""
    config = model.config
    unknown = {}
    if config.renderer and renderer_of(model) is None:
        unknown["renderer"] = config.renderer[:_SHOWN]
    if config.parser and not parser_of(model):
        unknown["parser"] = config.parser[:_SHOWN]
    return unknown


def _instead(model: Model) -> str:
    if model.uses_harmony or (model.selected_template == "go" and not model.traits.jinja):
        return "its Go template is used"
    if model.traits.jinja:
        return "the template in its GGUF is used"
    return "it has no template either, so turns are marked as in ChatML"
