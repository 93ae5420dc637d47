"""How a conversation becomes a prompt's text, and how the model marks thinking and tool calls in its answer.

| class         | template                             | thinking tags      | tool calls              |
|---------------|--------------------------------------|--------------------|-------------------------|
| GoPrompts     | the model's Go template              | as it writes them  | as it writes them       |
| HarmonyPrompts | the same, gpt-oss                   | channels           | channels                |
| EnginePrompts | the GGUF's Jinja, by /apply-template  | <think>, if it says so | none (generic ones only) |

Called by renderedchat.py and generate.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from corral.core import Message, Think, Tool
from corral.gotemplate import Template
from corral.inference.native import apply_template, native_messages
from corral.inference.templates import model_template
from corral.prompt.constraint import special_token
from corral.prompt.gorender import render_messages, tag_images
from corral.prompt.harmony import PRESERVED_TOKENS, FunctionNames, HarmonyParser
from corral.prompt.outputs import OutputParser, TaggedOutput
from corral.prompt.thinking import ThinkingParser, infer_tags
from corral.prompt.toolcalls import ToolCallParser, find_tag, takes_bare_calls
from corral.prompt.toolformat import ToolFormat, learn_format, sample_messages
from corral.sched.request import Lease
from corral.store.models import Model

Tags = tuple[str, str]

_JINJA_TAGS = ("<think>", "</think>")
_HARMONY_TAGS = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")
_KNOWN_SPECIALS = 256
_ENDS = ("eos", "eot", "eom")
_specials: dict[tuple[str, str], int | None] = {}  # (weights, text) -> id of the control token it is


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
        return await apply_template(self._lease, native_messages(bare), tools, think)

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


async def special_tokens(lease: Lease, texts: Sequence[str]) -> Mapping[str, int]:
    """Those of the texts that are one control token of the model, with its id. The engine is asked once per model."""
    found: dict[str, int] = {}
    for text in texts:
        key = (str(lease.spec.model_path), text)
        if key not in _specials:
            with_specials = await lease.runner.tokenize(text, parse_special=True)
            without = await lease.runner.tokenize(text, parse_special=False)
            while len(_specials) >= _KNOWN_SPECIALS:
                _specials.pop(next(iter(_specials)))
            _specials[key] = special_token(with_specials, without)
        token = _specials[key]
        if token is not None:
            found[text] = token
    return found


def end_tokens(model: Model) -> tuple[int, ...]:
    """The tokens that end the model's turn, as its GGUF says."""
    found = [model.header.get(f"tokenizer.ggml.{name}_token_id") for name in _ENDS] if model.header else []
    return tuple(dict.fromkeys(token for token in found if isinstance(token, int)))


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
