"""functiongemma: Gemma 3 for function calls. Source: ollama model/renderers/functiongemma.go, 2026-08."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from corral.core import Message, Think, Tool, ToolCall
from corral.prompt.govalues import trim_space, upper
from corral.prompt.renderers.gemmavalues import write_value
from corral.prompt.renderers.history import role_at, split_system
from corral.prompt.renderers.tooljson import sorted_arguments
from corral.prompt.toolschema import parameters_of

_TURN, _END = "<start_of_turn>", "<end_of_turn>\n"
_RESPONSE = "<start_function_response>"
_QUOTE = "<escape>"
_INTRODUCTION = "You can do function calling with the following functions:"


class FunctionGemma:
    """See registry.Renderer."""

    bos = "<bos>"

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt. A tool's result is not followed by a new turn: the model goes on with the one it is in."""
        system, turns = split_system(messages, "system", "developer")
        conversation = _Conversation()
        parts = [self.bos, _developer(system.content if system else "", tools)]
        parts += [conversation.turn(message, role_at(turns, place + 1)) for place, message in enumerate(turns)]
        if not conversation.after_result:
            parts.append(f"{_TURN}model\n")
        return "".join(parts)


class _Conversation:
    """Writes turns in order. `after_result`: a tool's result was the last, roles of no meaning here not counted."""

    def __init__(self) -> None:
        self.after_result = False
        self._awaits_result = False
        self._called: Iterator[ToolCall] = iter(())  # the last calls, as far as no result came for them

    def turn(self, message: Message, next_role: str) -> str:
        """A message; what follows decides how the model's calls end."""
        content = trim_space(message.content)
        match message.role:
            case "tool":
                return self._result(message)
            case "user":
                return self._opening("user") + content + _END
            case "assistant":
                opening = self._opening("model")
                if not message.tool_calls:
                    return opening + content + _END
                self._called = iter(message.tool_calls)
                self._awaits_result = next_role == "tool"
                calls = "".join(map(_call, message.tool_calls))
                return opening + content + calls + (_RESPONSE if self._awaits_result else _END)
            case _:
                return f"{_TURN}{message.role}\n{content}{_END}"

    def _opening(self, role: str) -> str:
        opening = "" if self.after_result else f"{_TURN}{role}\n"
        self.after_result = self._awaits_result = False
        return opening

    def _result(self, message: Message) -> str:
        call = next(self._called, None)
        opening = "" if self._awaits_result else _RESPONSE
        self._awaits_result, self.after_result = False, True
        return f"{opening}response:{call.name if call else ''}{{{_value(message.content)}}}<end_function_response>"


def _developer(own: str, tools: Sequence[Tool]) -> str:
    if not own and not tools:
        return ""
    text = trim_space(own)
    if tools:
        text += ("\n" if own else "") + ("" if trim_space(own) == _INTRODUCTION else _INTRODUCTION)
    return f"{_TURN}developer\n{text}{''.join(map(_declaration, tools))}{_END}"


def _call(call: ToolCall) -> str:
    arguments = ",".join(f"{name}:{_value(value)}" for name, value in sorted_arguments(call))
    return f"<start_function_call>call:{call.name}{{{arguments}}}<end_function_call>"


def _declaration(tool: Tool) -> str:
    schema = parameters_of(tool)
    fields: list[str] = []
    if schema.properties:
        described = (
            f"{name}:{{description:{_quoted(prop.description)}"
            + (f",type:{_quoted(upper(prop.types[0]))}" if prop.types else "")
            + "}"
            for name, prop in sorted(schema.properties.items())
        )
        fields.append(f"properties:{{{','.join(described)}}}")
    if schema.required:
        fields.append(f"required:[{','.join(map(_quoted, schema.required))}]")
    if schema.type:
        fields.append(f"type:{_quoted(upper(schema.type))}")
    has_schema = schema.properties is not None or bool(schema.type)
    parameters = f",parameters:{{{','.join(fields)}}}" if has_schema else ""
    described_as = f"description:{_quoted(tool.description)}"
    return (
        f"<start_function_declaration>declaration:{tool.name}{{{described_as}{parameters}}}<end_function_declaration>"
    )


def _quoted(text: str) -> str:
    return _QUOTE + text + _QUOTE


def _value(value: Any) -> str:
    return write_value(value, _QUOTE, nil="<nil>")
