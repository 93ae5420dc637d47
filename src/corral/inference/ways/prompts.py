"""How a conversation becomes a prompt's text. answers.py is the other half: how the answer is read.

| class           | model                          | the prompt is made by                 |
|-----------------|--------------------------------|---------------------------------------|
| RendererPrompts | whose config names a renderer  | that renderer                         |
| HarmonyPrompts  | gpt-oss                        | its Go template, functions renamed    |
| GoPrompts       | with a Go template             | that template                         |
| EnginePrompts   | with a Jinja template, as text | the engine's /apply-template          |

Called by rendered.py and generate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from corral.aio import LARGE_CHARACTERS, run_computing, run_large
from corral.answer.harmony import FunctionNames
from corral.core import Message, Think, Tool, characters_of
from corral.errors import InvalidRequest
from corral.gotemplate import Budget, Template
from corral.inference.preparing.way import renderer_of
from corral.inference.ways.messages import apply_template, engine_messages
from corral.inference.ways.shaping import Shaping
from corral.inference.ways.templates import model_template
from corral.prompt.gorender import render_messages, tag_images, tag_placed_images
from corral.prompt.renderers.registry import Renderer
from corral.sched.request import Lease
from corral.store.models import Model

_GO_BOS = "<bos>"  # the one that Go templates write; Source: ollama llm/llama_server.go completionPrompt, 2026-08


class Prompts(Protocol):
    """Renders for one model."""

    bos: str
    """What the prompt may begin with and the engine may add by itself: one of the two is too much."""

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt, images as `[img-N]`; raises InvalidRequest, TemplateError for a template that fails."""
        ...


class RendererPrompts:
    """A renderer of Ollama's that stands for a template."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self.bos = renderer.bos

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The renderer's text."""
        try:
            run = run_large if characters_of(messages) > LARGE_CHARACTERS else run_computing
            return await run(self._renderer.render, tag_placed_images(messages), tools, think)
        except RecursionError:
            raise InvalidRequest("a tool or a call in the messages is nested too deeply", field="messages") from None


class GoPrompts:
    """The model's Go template."""

    bos = _GO_BOS

    def __init__(self, template: Template) -> None:
        self._template = template
        self._budget = Budget()  # of all renderings for the request

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The template's text. Calls that it leaves out Ollama leaves out too, and rendered.py tells."""

        async def render(offered: Sequence[Message]) -> str:
            tagged = tag_images(offered).messages
            run = run_large if characters_of(tagged) > LARGE_CHARACTERS else run_computing
            return await run(render_messages, self._template, tagged, tools, think=think, budget=self._budget)

        has_place = {"system", "messages"} & self._template.identifiers
        spared = frozenset({"tool"} if has_place else {"tool", "system"})
        return (await Shaping(render, may_leave_out=spared).shape(messages)).text


class HarmonyPrompts(GoPrompts):
    """gpt-oss: functions under names that the format allows."""

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The template's text, functions renamed."""
        return await super().render(messages, FunctionNames(tools).tools, think)


class EnginePrompts:
    """The Jinja template in the GGUF, or the engine's own where there is none, applied by the engine."""

    bos = ""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The engine's text."""

        async def render(offered: Sequence[Message]) -> str:
            bare = [replace(message, images=()) for message in tag_images(offered).messages]
            return await apply_template(self._lease, engine_messages(bare), tools, think)

        return (await Shaping(render).shape(messages)).text


def prompts_of(lease: Lease, model: Model, *, rendered: bool) -> Prompts:
    """What renders this model's chats as text; `rendered` as way.is_rendered says."""
    if not rendered:
        return EnginePrompts(lease)
    renderer = renderer_of(model)
    if renderer is not None:
        return RendererPrompts(renderer)
    template = model_template(model)
    return HarmonyPrompts(template) if model.uses_harmony else GoPrompts(template)
