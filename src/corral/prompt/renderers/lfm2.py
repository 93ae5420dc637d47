"""lfm2 and lfm2-thinking: Liquid's LFM2 and LFM2.5. Source: ollama model/renderers/lfm2.go, 2026-08."""

from __future__ import annotations

from collections.abc import Sequence

from corral.core import Message, Think, Tool, ToolCall
from corral.gojson import encode
from corral.prompt.gorender import thinks
from corral.prompt.govalues import trim_space
from corral.prompt.renderers.history import last_index, role_at, split_system
from corral.prompt.renderers.imagetags import ImageTags
from corral.prompt.renderers.tooljson import parameters_json, sorted_arguments, value_json

_BEGIN, _START, _END = "<|startoftext|>", "<|im_start|>", "<|im_end|>\n"
_CALLS, _CALLS_END = "<|tool_call_start|>", "<|tool_call_end|>"
_RESULT, _RESULT_END = "<|tool_response_start|>", "<|tool_response_end|>"
_THINK_END = "</think>"


class LFM2:
    """See registry.Renderer. Only the thinking models write thoughts."""

    bos = _BEGIN

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt. An answer at the end is left open; thoughts of earlier ones go unless thinking was asked for."""
        system, turns = split_system(messages)
        images = ImageTags(len(system.images) if system else 0)
        keeps_all = self._thinking and thinks(think)
        last_answer = last_index(turns, "assistant")
        parts = [_BEGIN, _system(system.content if system else "", tools)]
        for place, message in enumerate(turns):
            content = images.place(message)
            if message.role == "assistant":
                content = self._answer(message, content, keeps_thought=keeps_all or place == last_answer)
            elif message.role == "tool" and _RESULT not in content:
                content = _RESULT + content + _RESULT_END
            is_open = message.role == "assistant" and place == len(turns) - 1
            parts.append(f"{_START}{message.role}\n{content}" + ("" if is_open else _END))
        if role_at(messages, len(messages) - 1) != "assistant":
            parts.append(f"{_START}assistant\n")
        return "".join(parts)

    def _answer(self, message: Message, content: str, *, keeps_thought: bool) -> str:
        if message.tool_calls and _CALLS not in content:
            content = _calls(message.tool_calls) + ("\n" if trim_space(content) else "") + content
        if self._thinking and message.thinking and _THINK_END not in content:
            content = f"<think>{message.thinking}{_THINK_END}{content}"
        if not keeps_thought and _THINK_END in content:
            content = trim_space(content.rpartition(_THINK_END)[2])
        return content


def _system(own: str, tools: Sequence[Tool]) -> str:
    if tools:
        listed = ", ".join(map(_schema, tools))
        own += ("\n" if own else "") + f"List of tools: <|tool_list_start|>[{listed}]<|tool_list_end|>"
    return f"{_START}system\n{own}{_END}" if own else ""


def _schema(tool: Tool) -> str:
    """The function alone; a tool without a name is shown whole."""
    fields = {"name": tool.name} | ({"description": tool.description} if tool.description else {})
    head = encode(fields, html=False, spaced=True).removesuffix("}")
    function = f'{head}, "parameters": {parameters_json(tool, html=False)}}}'
    if tool.name:
        return function
    return f'{{"type": {encode(tool.type, html=False)}, "function": {function}}}'


def _calls(calls: Sequence[ToolCall]) -> str:
    written = (
        f"{call.name}({','.join(f'{name}={_value(value)}' for name, value in sorted_arguments(call))})"
        for call in calls
    )
    return f"{_CALLS}[{','.join(written)}]{_CALLS_END}"


def _value(value: object) -> str:
    return value_json(value, html=False, spaced=True)
