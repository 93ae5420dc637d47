"""laguna and poolside-v1: Poolside's Laguna, its second and its eighth template.

Source: ollama model/renderers/laguna.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corral.core import Message, Think, Tool, ToolCall
from corral.prompt.gorender import thinks
from corral.prompt.govalues import trim_right_space, trim_space
from corral.prompt.renderers.history import role_at, split_system
from corral.prompt.renderers.tooljson import tool_json, value_json

_BEGIN = "〈|EOS|〉"
_IDENTITY = (
    "You are a helpful, conversationally-fluent assistant made by Poolside. You are here to be helpful to users "
    "through natural language conversations."
)
_BEFORE_TOOLS = """\
### Tools

You may call functions to assist with the user query.
All available function signatures are listed below:
<available_tools>
"""
_WRAP_THOUGHT = "Wrap your thinking in '<think>', '</think>' tags, followed by a function call. "
_HOW_TO_CALL = (
    "For each function call, return an unescaped XML-like object with function name and arguments within "
    "'<tool_call>' and '</tool_call>' tags, like here:\n"
)
_EXAMPLE_THOUGHT = "<think> your thoughts here </think>\n"
_EXAMPLE = """\
<tool_call>function-name
<arg_key>argument-key</arg_key>
<arg_value>value-of-argument-key</arg_value>
</tool_call>"""


class Laguna:
    """See registry.Renderer."""

    bos = _BEGIN

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; thinking has to be asked for. An answer at the end that says something is left open."""
        system, turns = split_system(messages)
        parts = [_BEGIN, self._header(_IDENTITY if system is None else system.content, tools, thinking=thinks(think))]
        parts += [self._turn(message, is_last=place == len(turns) - 1) for place, message in enumerate(turns)]
        if role_at(messages, len(messages) - 1) != "assistant":
            parts.append("<assistant>\n" + ("<think>" if thinks(think) else "</think>"))
        return "".join(parts)

    def _header(self, system: str, tools: Sequence[Tool], *, thinking: bool) -> str:
        text = trim_right_space(system)
        if not text and not tools:
            return ""
        told = ""
        if tools:
            how = _WRAP_THOUGHT + _HOW_TO_CALL + _EXAMPLE_THOUGHT if thinking else _HOW_TO_CALL
            told = f"\n\n{_tools(tools)}\n\n{how}{_EXAMPLE}"
        return "<system>\n" + (f"\n{text}" if text else "") + told + "\n</system>\n"

    def _turn(self, message: Message, *, is_last: bool) -> str:
        match message.role:
            case "user" | "system":
                return f"<{message.role}>\n{message.content}\n</{message.role}>\n"
            case "tool":
                return f"<tool_response>\n{message.content}\n</tool_response>\n"
            case "assistant":
                said = self._answer(message)
                is_open = is_last and said != "</think>\n"
                return f"<assistant>\n{said}" + ("" if is_open else "</assistant>\n")
            case _:
                return ""

    def _answer(self, message: Message) -> str:
        """Thoughts, or the mark that there were none; text; calls."""
        content, thought = (trim_space(text) for text in _split_thought(message))
        said = f"<think>\n{thought}\n</think>\n" if thought else "</think>\n"
        return said + (f"{content}\n" if content else "") + "".join(map(self._call, message.tool_calls))

    def _call(self, call: ToolCall) -> str:
        arguments = "".join(
            f"<arg_key>{name}</arg_key>\n<arg_value>{_value(value)}</arg_value>\n"
            for name, value in call.arguments.items()
        )
        return f"<tool_call>{call.name}\n{arguments}</tool_call>\n"


class PoolsideV1:
    """See registry.Renderer. The same without line breaks; no answer is left open."""

    bos = _BEGIN

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; thinking has to be asked for, and earlier thoughts are told only then."""
        thinking = thinks(think)
        system, turns = split_system(messages)
        parts = [_BEGIN, self._header(_IDENTITY if system is None else system.content, tools, thinking=thinking)]
        parts += [self._turn(message, thinking=thinking) for message in turns]
        return "".join([*parts, "<assistant>", "<think>" if thinking else "</think>"])

    def _header(self, system: str, tools: Sequence[Tool], *, thinking: bool) -> str:
        text = trim_right_space(system)
        if not text and not tools and not thinking:
            return ""
        told = _tools(tools) if tools else ""
        return f"<system>{text}" + ("\n\n" if text and told else "") + f"{told}</system>\n"

    def _turn(self, message: Message, *, thinking: bool) -> str:
        match message.role:
            case "user" | "system":
                return f"<{message.role}>{message.content}</{message.role}>\n"
            case "tool":
                return f"<tool_response>{message.content}</tool_response>\n"
            case "assistant":
                thought = f"<think>{message.thinking}</think>" if thinking else "</think>"
                calls = "".join(map(self._call, message.tool_calls))
                return f"<assistant>{thought}{message.content}{calls}</assistant>\n"
            case _:
                return ""

    def _call(self, call: ToolCall) -> str:
        arguments = "".join(
            f"<arg_key>{name}</arg_key><arg_value>{_value(value)}</arg_value>" for name, value in call.arguments.items()
        )
        return f"<tool_call>{call.name}{arguments}</tool_call>"


def _tools(tools: Sequence[Tool]) -> str:
    return _BEFORE_TOOLS + "".join(f"{tool_json(tool)}\n" for tool in tools) + "</available_tools>"


def _split_thought(message: Message) -> tuple[str, str]:
    """Content and thoughts of an answer; thoughts may stand in its content between tags."""
    before, *others = message.content.split("</think>")
    if not others:
        return message.content, message.thinking
    thought = message.thinking or before.rstrip("\n").rpartition("<think>")[2]
    return others[-1], thought


def _value(value: Any) -> str:
    return value if isinstance(value, str) else value_json(value, spaced=True)
