"""glm-4.7 (GLM 4.7 and its Flash) and glm-ocr. Source: ollama model/renderers/glm47.go, glmocr.go, 2026-08."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corral.core import Message, Think, Tool, ToolCall
from corral.prompt.gorender import thinks
from corral.prompt.govalues import trim_space
from corral.prompt.renderers.history import role_at
from corral.prompt.renderers.imagetags import ImageTags
from corral.prompt.renderers.tooljson import tool_json, value_json

_BEGIN = "[gMASK]<sop>"
_BEFORE_TOOLS = """\
<|system|>
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
"""
_BEHIND_TOOLS = """\
</tools>

For each function call, output the function name and arguments within the following XML format:
<tool_call>{function-name}<arg_key>{arg-key-1}</arg_key><arg_value>{arg-value-1}</arg_value>\
<arg_key>{arg-key-2}</arg_key><arg_value>{arg-value-2}</arg_value>...</tool_call>"""
_NO_THOUGHT = "<think></think>"


class GLM47:
    """See registry.Renderer. Thoughts of all turns are kept."""

    bos = ""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; it thinks unless told not to."""
        parts = [_BEGIN, _tools(tools), *(self._turn(messages, place) for place in range(len(messages)))]
        return "".join([*parts, "<|assistant|>", "<think>" if think is None or thinks(think) else "</think>"])

    def _turn(self, messages: Sequence[Message], place: int) -> str:
        message = messages[place]
        match message.role:
            case "user" | "system":
                return f"<|{message.role}|>{message.content}"
            case "assistant":
                thought = f"<think>{message.thinking}</think>" if message.thinking else "</think>"
                return f"<|assistant|>{thought}{message.content}{''.join(map(_call, message.tool_calls))}"
            case "tool":
                return f"{_observation(messages, place)}<tool_response>{message.content}</tool_response>"
            case _:
                return ""


class GLMOCR:
    """See registry.Renderer. Told not to think, the user's text says so too."""

    bos = ""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; only an explicit no closes the thought beforehand."""
        silent = think is not None and not thinks(think)
        images = ImageTags()
        parts = [_BEGIN, _tools(tools)]
        parts += [self._turn(messages, place, images, silent=silent) for place in range(len(messages))]
        return "".join([*parts, "<|assistant|>\n", f"{_NO_THOUGHT}\n" if silent else ""])

    def _turn(self, messages: Sequence[Message], place: int, images: ImageTags, *, silent: bool) -> str:
        message = messages[place]
        match message.role:
            case "user":
                mark = "/nothink" if silent and not message.content.endswith("/nothink") else ""
                return f"<|user|>\n{images.place(message)}{mark}"
            case "assistant":
                return f"<|assistant|>\n{self._answer(message)}\n"
            case "tool":
                response = f"\n<tool_response>\n{images.place(message)}\n</tool_response>\n"
                return _observation(messages, place) + response
            case "system":
                return f"<|system|>\n{message.content}\n"
            case _:
                return ""

    def _answer(self, message: Message) -> str:
        thought = f"<think>{trim_space(message.thinking)}</think>" if message.thinking else _NO_THOUGHT
        content = f"\n{trim_space(message.content)}" if message.content else ""
        return thought + content + "".join(f"\n{_call(call)}" for call in message.tool_calls)


def _tools(tools: Sequence[Tool]) -> str:
    if not tools:
        return ""
    return _BEFORE_TOOLS + "".join(f"{tool_json(tool)}\n" for tool in tools) + _BEHIND_TOOLS


def _observation(messages: Sequence[Message], place: int) -> str:
    """Results that follow each other share one heading."""
    return "" if role_at(messages, place - 1) == "tool" else "<|observation|>"


def _call(call: ToolCall) -> str:
    arguments = "".join(
        f"<arg_key>{name}</arg_key><arg_value>{_value(value)}</arg_value>" for name, value in call.arguments.items()
    )
    return f"<tool_call>{call.name}{arguments}</tool_call>"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else value_json(value)
