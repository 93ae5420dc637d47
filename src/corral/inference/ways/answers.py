"""How a model marks thinking and tool calls in its answers, and who reads them: the other half of prompts.py.

| class           | model                          | thinking            | tool calls                              |
|-----------------|--------------------------------|---------------------|-----------------------------------------|
| TemplateAnswers | with a Go template             | as the template has it | as the template has it               |
| HarmonyAnswers  | gpt-oss                        | channels            | channels                                |
| NamedAnswers    | whose config names a parser    | as the parser knows | as the parser knows                     |
| EngineAnswers   | with a Jinja template, as text | <think>, if it says so | as sample calls show                  |
| PlainAnswers    | none of these                  | none                | none (generic ones only)                |

Called by rendered.py and generate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from corral.answer.harmony import PRESERVED_TOKENS, FunctionNames
from corral.answer.outputs import CallsInContent, OutputParser, TaggedOutput, WithoutLead
from corral.answer.parsers import answer_parser
from corral.answer.parsers.harmony import HarmonyParser
from corral.answer.thinking import ThinkingParser, infer_tags
from corral.answer.toolcalls import ToolCallParser, find_tag, takes_bare_calls
from corral.constraint.fields import Thinking
from corral.core import Message, Think, Tool
from corral.gotemplate import Budget, Template
from corral.inference.preparing.way import parser_of, renderer_of
from corral.inference.ways.answerforms import FORMS, AnswerForm, Tags
from corral.inference.ways.enginecalls import marks_of
from corral.inference.ways.templates import go_template, model_template
from corral.parsernames import PARSERS
from corral.prompt.gorender import render_messages, thinks
from corral.prompt.toolformat import GENERIC_FORMAT, ToolFormat, learn_format, sample_messages
from corral.store.models import Model

_JINJA_TAGS = ("<think>", "</think>")
_HARMONY_TAGS = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer is the answer to. last: the last message; generic_tools: calls are written in our own form."""

    tools: Sequence[Tool] = ()
    last: Message | None = None
    think: Think = None
    generic_tools: bool = False


class Answers(Protocol):
    """Reads the answers of one model."""

    tags: Tags | None
    """Around the thinking."""
    opening: str
    """What the model writes before text, behind its thinking."""
    reads_unasked: bool
    """Whether thinking that the prompt began is read even where none was asked for."""

    @property
    def marks(self) -> Sequence[str]:
        """Texts that may be control tokens of the model and occur in its answers."""
        ...

    def parser(self, thinking: Thinking | None, asked: Asked) -> OutputParser | None:
        """What reads one answer; `thinking` as the prompt began it. None: the text is the answer."""
        ...

    def tool_format(self) -> ToolFormat | None:
        """How the model writes calls; None when that is not known so plainly that a grammar could hold it to it.

        May compute for a while: to be run on `aio.run_computing`.
        """
        ...


class PlainAnswers:
    """Nothing in the text is known to mean anything."""

    tags: Tags | None = None
    opening = ""
    reads_unasked = False

    @property
    def marks(self) -> Sequence[str]:
        """The thinking tags, if there are any."""
        return self.tags or ()

    def parser(self, thinking: Thinking | None, asked: Asked) -> OutputParser | None:
        """Tags for thinking, and for generic calls."""
        generic = bool(asked.tools) and asked.generic_tools
        return tagged(thinking, ToolCallParser(GENERIC_FORMAT.tag, asked.tools) if generic else None)

    def tool_format(self) -> ToolFormat | None:
        """None."""
        return None


class EngineAnswers(PlainAnswers):
    """As the Jinja template in the GGUF shows. calls: how it writes calls, when that was learnt (enginecalls.py)."""

    def __init__(self, model: Model) -> None:
        self.tags = _JINJA_TAGS if all(tag in model.traits.jinja for tag in _JINJA_TAGS) else None
        self.calls: ToolFormat | None = None

    @property
    def marks(self) -> Sequence[str]:
        """The thinking tags, and those of calls."""
        return [*(self.tags or ()), *(marks_of(self.calls) if self.calls else ())]

    def parser(self, thinking: Thinking | None, asked: Asked) -> OutputParser | None:
        """Tags for thinking, and for calls."""
        if self.calls is None or asked.generic_tools or not asked.tools:
            return super().parser(thinking, asked)
        return tagged(thinking, ToolCallParser(self.calls.tag, asked.tools))

    def tool_format(self) -> ToolFormat | None:
        """As it was learnt."""
        return self.calls


class TemplateAnswers:
    """As the model's Go template has them."""

    opening = ""
    reads_unasked = False

    def __init__(self, template: Template) -> None:
        self._template = template
        self.tags: Tags | None = infer_tags(template)

    @property
    def marks(self) -> Sequence[str]:
        """The thinking tags, and the tag of a call."""
        return [*(self.tags or ()), find_tag(self._template)]

    def parser(self, thinking: Thinking | None, asked: Asked) -> OutputParser | None:
        """Tags for thinking, then tags for calls."""
        if not asked.tools:
            return tagged(thinking, None)
        if asked.generic_tools:
            return tagged(thinking, ToolCallParser(GENERIC_FORMAT.tag, asked.tools))
        bare = takes_bare_calls(self._template)
        return tagged(thinking, ToolCallParser(find_tag(self._template), asked.tools, or_bare=bare))

    def tool_format(self) -> ToolFormat | None:
        """Learnt from sample calls."""
        return _learnt(self._template.source)


class HarmonyAnswers:
    """gpt-oss: channels say what is what."""

    tags: Tags | None = _HARMONY_TAGS
    opening = ""
    reads_unasked = False

    @property
    def marks(self) -> Sequence[str]:
        """The format's own tokens."""
        return PRESERVED_TOKENS

    def parser(self, thinking: Thinking | None, asked: Asked) -> OutputParser | None:
        """Functions have the names that the format allows."""
        return HarmonyParser(FunctionNames(asked.tools), asked.last)

    def tool_format(self) -> ToolFormat | None:
        """Calls are channels, not text."""
        return None


class NamedAnswers:
    """A parser of Ollama's that the model's config names."""

    reads_unasked = True

    def __init__(self, name: str) -> None:
        self._name = name
        form = FORMS.get(name, AnswerForm())
        self.tags: Tags | None = form.thinking
        self.opening = form.opening
        self._calls = form.calls

    @property
    def marks(self) -> Sequence[str]:
        """What the parser needs to see, and the thinking tags."""
        return list(dict.fromkeys([*PARSERS[self._name].preserved_tokens, *(self.tags or ())]))

    def parser(self, thinking: Thinking | None, asked: Asked) -> OutputParser | None:
        """That parser, and behind it one for generic calls."""
        tools = () if asked.generic_tools else asked.tools
        found: OutputParser | None = answer_parser(self._name, tools, asked.last, asked.think)
        assert found is not None
        if thinking is not None and thinking.lead:
            found = WithoutLead(found, thinking.lead)
        if asked.tools and asked.generic_tools:
            return CallsInContent(found, ToolCallParser(GENERIC_FORMAT.tag, asked.tools))
        return found

    def tool_format(self) -> ToolFormat | None:
        """As models that the parser is for write calls."""
        return self._calls


@lru_cache(maxsize=64)
def _learnt(source: str) -> ToolFormat | None:
    """How the model of a Go template writes calls, by sample calls."""
    template, budget = go_template(source), Budget()
    one, two = (render_messages(template, sample_messages(count), budget=budget) for count in (1, 2))
    return learn_format(find_tag(template), one, two)


def answers_of(model: Model, *, rendered: bool) -> Answers:
    """What reads this model's answers on /completion; `rendered` as way.is_rendered says."""
    if not rendered:
        return EngineAnswers(model)
    if parser_of(model):
        return NamedAnswers(parser_of(model))
    if model.uses_harmony:
        return HarmonyAnswers()
    return PlainAnswers() if renderer_of(model) else TemplateAnswers(model_template(model))


def thinking_of(answers: Answers, prompt: str, think: Think) -> Thinking | None:
    """How the thinking of the answer to a prompt will be marked; None when nothing has to be split off."""
    if answers.tags is None:
        return None
    inside = prompt.rstrip().endswith(answers.tags[0])
    if not thinks(think) and not (inside and answers.reads_unasked):
        return None
    budget = think if isinstance(think, int) and not isinstance(think, bool) else None
    return Thinking(*answers.tags, inside=inside, budget=budget)


def think_after(answers: Answers, prompt: str, think: Think) -> Think:
    """What the answer's reader is told: no thinking comes where the prompt has closed it already."""
    closed = answers.tags is not None and prompt.rstrip().endswith(answers.tags[1])
    return False if closed else think


def tagged(thinking: Thinking | None, tools: ToolCallParser | None) -> OutputParser | None:
    """A parser of what there is to parse."""
    if thinking is None:
        return TaggedOutput(None, tools) if tools else None
    return TaggedOutput(ThinkingParser(thinking.open_tag, thinking.close_tag, thinking.inside), tools)
