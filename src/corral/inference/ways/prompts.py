"""How a conversation becomes a prompt's text, and how the model marks thinking and tool calls in its answer.

| class         | template                             | thinking tags      | tool calls              |
|---------------|--------------------------------------|--------------------|-------------------------|
| GoPrompts     | the model's Go template              | as it writes them  | as it writes them       |
| HarmonyPrompts | the same, gpt-oss                   | channels           | channels                |
| EnginePrompts | the GGUF's Jinja, by /apply-template  | <think>, if it says so | none (generic ones only) |

Called by rendered.py and generate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from corral.answer.harmony import PRESERVED_TOKENS, FunctionNames
from corral.answer.outputs import OutputParser, TaggedOutput
from corral.answer.parsers.harmony import HarmonyParser
from corral.answer.thinking import ThinkingParser, infer_tags
from corral.answer.toolcalls import ToolCallParser, find_tag, takes_bare_calls
from corral.core import Message, Think, Tool
from corral.gotemplate import Template
from corral.inference.ways.messages import apply_template, engine_messages
from corral.inference.ways.templates import model_template
from corral.prompt.gorender import render_messages, tag_images
from corral.prompt.toolformat import ToolFormat, learn_format, sample_messages
from corral.sched.request import Lease
from corral.store.models import Model

Tags = tuple[str, str]

_JINJA_TAGS = ("<think>", "</think>")
_HARMONY_TAGS = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")


class Prompts(Protocol):
    """Renders and reads for one model."""

    tags: Tags | None  # around thinking

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; raises TemplateError. Images become `[img-N]`."""
        ...

    def parser(
        self, thinking: ThinkingParser | None, tools: Sequence[Tool], messages: Sequence[Message], tag: str
    ) -> OutputParser | None:
        """Reads an answer; `tag` begins a tool call, "" = as the template has it. None: the text is the answer."""
        ...

    async def tool_format(self) -> ToolFormat | None:
        """How the model writes calls; None when its template does not show it plainly."""
        ...

    @property
    def marks(self) -> Sequence[str]:
        """Texts that may be control tokens of the model and occur in its answers."""
        ...


class GoPrompts:
    """The model's Go template."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self.tags: Tags | None = infer_tags(template)

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The template's text."""
        return render_messages(self._template, tag_images(messages).messages, tools, think=think)

    def parser(
        self, thinking: ThinkingParser | None, tools: Sequence[Tool], messages: Sequence[Message], tag: str
    ) -> OutputParser | None:
        """Tags for thinking, then tags for calls."""
        bare = not tag and takes_bare_calls(self._template)
        reader = ToolCallParser(tag or find_tag(self._template), tools, or_bare=bare) if tools else None
        return tagged(thinking, reader)

    async def tool_format(self) -> ToolFormat | None:
        """Learnt from sample calls."""
        one, two = (render_messages(self._template, sample_messages(count)) for count in (1, 2))
        return learn_format(find_tag(self._template), one, two)

    @property
    def marks(self) -> Sequence[str]:
        """The thinking tags, and the tag of a call."""
        return [*(self.tags or ()), find_tag(self._template)]


class HarmonyPrompts(GoPrompts):
    """gpt-oss: channels instead of tags, functions under names that the format allows."""

    def __init__(self, template: Template) -> None:
        super().__init__(template)
        self.tags = _HARMONY_TAGS

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The template's text, functions renamed."""
        return await super().render(messages, FunctionNames(tools).tools, think)

    def parser(
        self, thinking: ThinkingParser | None, tools: Sequence[Tool], messages: Sequence[Message], tag: str
    ) -> OutputParser | None:
        """Channels say what is what."""
        return HarmonyParser(FunctionNames(tools), messages[-1] if messages else None)

    async def tool_format(self) -> ToolFormat | None:
        """Calls are channels, not text."""
        return None

    @property
    def marks(self) -> Sequence[str]:
        """The format's own tokens."""
        return PRESERVED_TOKENS


class EnginePrompts:
    """The Jinja template in the GGUF, applied by the engine."""

    def __init__(self, lease: Lease, model: Model) -> None:
        self._lease = lease
        self.tags: Tags | None = _JINJA_TAGS if all(tag in model.traits.jinja for tag in _JINJA_TAGS) else None

    async def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The engine's text."""
        bare = [_without_images(message) for message in tag_images(messages).messages]
        return await apply_template(self._lease, engine_messages(bare), tools, think)

    def parser(
        self, thinking: ThinkingParser | None, tools: Sequence[Tool], messages: Sequence[Message], tag: str
    ) -> OutputParser | None:
        """Tags for thinking, and for generic calls."""
        return tagged(thinking, ToolCallParser(tag, tools) if tools and tag else None)

    async def tool_format(self) -> ToolFormat | None:
        """Only the engine knows it."""
        return None

    @property
    def marks(self) -> Sequence[str]:
        """The thinking tags."""
        return self.tags or ()


def prompts_of(lease: Lease, model: Model, *, rendered: bool) -> Prompts:
    """What renders this model's chats as text; `rendered` as paths.is_rendered says."""
    if not rendered:
        return EnginePrompts(lease, model)
    template = model_template(model)
    return HarmonyPrompts(template) if model.uses_harmony else GoPrompts(template)


def tagged(thinking: ThinkingParser | None, tools: ToolCallParser | None) -> OutputParser | None:
    """A parser of what there is to parse."""
    return TaggedOutput(thinking, tools) if thinking or tools else None


def _without_images(message: Message) -> Message:
    return (
        message
        if not message.images
        else Message(
            message.role,
            message.content,
            message.thinking,
            (),
            message.tool_calls,
            message.tool_name,
            message.tool_call_id,
        )
    )
