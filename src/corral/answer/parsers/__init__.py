"""Reading answers as the parser does that a model's config names. `answer_parser` makes one per answer. Pure.

marked, pieces                base: modes and the marks that end them; text that comes in pieces
arguments, elements, nested,  what is in a call: values by schema, XML-like elements, values in brackets,
brackets, gemma4arguments     the end of JSON, gemma4's own notation
the others                    one family of models each

Names and traits (tools, thinking, preserved tokens) are in corral.parsernames. What happens to calls that cannot be
read stands in marked.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from corral.answer.harmony import FunctionNames
from corral.answer.parsers.cohere import CohereParser
from corral.answer.parsers.deepseek import CogitoParser, DeepSeek3Parser
from corral.answer.parsers.functiongemma import FunctionGemmaParser
from corral.answer.parsers.gemma4 import Gemma4Parser
from corral.answer.parsers.glimmer import GlimmerParser
from corral.answer.parsers.glm import GLMParser
from corral.answer.parsers.harmony import HarmonyParser
from corral.answer.parsers.laguna import LagunaParser
from corral.answer.parsers.lfm2 import LFM2Parser
from corral.answer.parsers.marked import MarkedParser
from corral.answer.parsers.ministral import MinistralParser
from corral.answer.parsers.olmo3 import Olmo3Parser, Olmo3ThinkParser
from corral.answer.parsers.passthrough import PassthroughParser
from corral.answer.parsers.qwen3 import Qwen3Parser, Qwen3VLParser
from corral.answer.parsers.qwen3coder import Qwen3CoderParser
from corral.answer.parsers.qwen35 import Qwen35Parser
from corral.core import Message, Think, Tool

AnswerParser = MarkedParser
"""An `outputs.OutputParser` that also has `failure`: the error that Ollama would have answered with, or None."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is known of an answer before it comes."""

    tools: Sequence[Tool]
    last: Message | None
    think: Think

    @property
    def asked(self) -> bool:
        """Whether thinking was asked for."""
        return self.think is not None and self.think is not False and self.think != 0

    @property
    def allowed(self) -> bool:
        """Whether thinking was not switched off."""
        return self.think is None or self.asked

    @property
    def continues(self) -> bool:
        """Whether the conversation ends with an assistant's text, which the answer goes on with."""
        return self.last is not None and self.last.role == "assistant" and bool(self.last.content)

    @property
    def follows_result(self) -> bool:
        """Whether the conversation ends with a tool's result."""
        return self.last is not None and self.last.role == "tool"


def answer_parser(name: str, tools: Sequence[Tool], last_message: Message | None, think: Think) -> AnswerParser | None:
    """The parser of that name for one answer; None when there is none. `last_message` ends the conversation."""
    make = _PARSERS.get(name)
    return make(_Answer(tools, last_message, think)) if make else None


def _laguna(answer: _Answer) -> LagunaParser:
    continues = answer.last is not None and answer.last.role == "assistant"
    return LagunaParser(answer.tools, thinks=answer.asked, inside=answer.asked and not continues)


def _qwen35(answer: _Answer) -> Qwen35Parser:
    return Qwen35Parser(answer.tools, thinks=answer.allowed and not answer.continues)


_PARSERS: Mapping[str, Callable[[_Answer], AnswerParser]] = {
    "cogito": lambda a: CogitoParser(thinks=a.asked and not a.continues and not a.tools),
    "cohere": lambda a: CohereParser(thinks=a.allowed, continues=a.continues),
    "deepseek3": lambda a: DeepSeek3Parser(thinks=a.asked and not a.continues),
    "functiongemma": lambda a: FunctionGemmaParser(),
    "gemma4": lambda a: Gemma4Parser(a.tools, thinks=a.asked, inside=a.follows_result),
    "gemma4-no-thinking": lambda a: Gemma4Parser(a.tools, thinks=False, inside=False),
    "glimmer": lambda a: GlimmerParser(a.tools, thinks=a.allowed),
    "glm-4.7": lambda a: GLMParser(a.tools, thinks=a.allowed),
    "glm-ocr": lambda a: GLMParser(a.tools, thinks=False),
    "harmony": lambda a: HarmonyParser(FunctionNames(a.tools), a.last),
    "laguna": _laguna,
    "lfm2": lambda a: LFM2Parser(may_think=False),
    "lfm2-thinking": lambda a: LFM2Parser(may_think=a.asked and not a.continues),
    "ministral": lambda a: MinistralParser(a.tools),
    "nemotron-3-nano": _qwen35,
    "nemotron-3.5-nano": _qwen35,
    "olmo3": lambda a: Olmo3Parser(),
    "olmo3-think": lambda a: Olmo3ThinkParser(thinks=not a.continues),
    "ornith": _qwen35,
    "passthrough": lambda a: PassthroughParser(),
    "poolside-v1": lambda a: LagunaParser(a.tools, thinks=a.asked, inside=a.asked),
    "qwen3": lambda a: Qwen3Parser(thinks=False),
    "qwen3-coder": lambda a: Qwen3CoderParser(a.tools),
    "qwen3-thinking": lambda a: Qwen3Parser(thinks=a.allowed),
    "qwen3-vl-instruct": lambda a: Qwen3VLParser(thinks=False),
    "qwen3-vl-thinking": lambda a: Qwen3VLParser(thinks=not a.continues),
    "qwen3.5": _qwen35,
}
