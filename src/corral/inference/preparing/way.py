"""Which of the two ways a model's chats take, templated or rendered. Pure; asked by leasing.py, chat.py, generate.py.

| model                                              | way       |
|----------------------------------------------------|-----------|
| harmony (gpt-oss)                                  | rendered  |
| renderer or parser of Ollama's own, GGUF has Jinja | templated |
| Go template selected                               | rendered  |
| anything else                                      | templated |

Source: ollama server/routes.go chatModeForModel, 2026-08. Ollama has renderers written in Go for some models;
Corral has the template that the model's makers ship in the GGUF.
"""

from __future__ import annotations

from corral.core import Notice
from corral.store.models import Model


def is_rendered(model: Model) -> bool:
    """Whether Corral renders the prompt itself."""
    if model.uses_harmony:
        return True
    if _names_renderer(model) and model.traits.jinja:
        return False
    return model.selected_template == "go" or _names_renderer(model)


def way_notices(model: Model) -> list[Notice]:
    """What is different because a renderer or parser named by the model does not exist here."""
    if model.uses_harmony or not _names_renderer(model):
        return []
    name = model.config.renderer or model.config.parser
    instead = "the template in its GGUF" if model.traits.jinja else "its Go template"
    text = f"the model asks for the renderer {name!r}, which Corral does not have; {instead} is used"
    return [Notice("renderer_replaced", text, {"renderer": name})]


def _names_renderer(model: Model) -> bool:
    return bool(model.config.renderer or model.config.parser)
