"""deepseek3.1: DeepSeek V3.1. Source: ollama model/renderers/deepseek3.go, 2026-08."""

from __future__ import annotations

from collections.abc import Sequence

from corral.core import Message, Think, Tool
from corral.prompt.gorender import thinks
from corral.prompt.renderers.history import last_index
from corral.prompt.renderers.tooljson import arguments_json, parameters_json

_BEGIN, _END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
_ASSISTANT = "<｜Assistant｜>"
_HOW_TO_CALL = (
    "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
    "{{additional_tool_calls}}<｜tool▁calls▁end｜>\n\n"
    "Where:\n\n"
    "- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces\n"
)


class DeepSeek31:
    """See registry.Renderer."""

    bos = _BEGIN

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; thinking has to be asked for. Only a question asks for an answer, a tool's result does not."""
        thinking = thinks(think)
        last_user = last_index(messages, "user")
        parts = [_BEGIN, "\n\n".join(message.content for message in messages if message.role == "system")]
        parts.append(_tools(tools))
        before = ""  # the role of the turn before, of those that are written
        for place, message in enumerate(messages):
            if message.role not in ("user", "assistant", "tool"):
                continue
            if message.role == "user":
                parts.append(f"<｜User｜>{message.content}")
            elif message.role == "tool":
                parts.append(f"<｜tool▁output▁begin｜>{message.content}<｜tool▁output▁end｜>")
            else:
                thought = bool(message.thinking) and not message.tool_calls and thinking and place > last_user
                parts.append(_opening(thinking=thought) if before == "user" else "")
                parts.append(_answer(message, after_tool=before == "tool"))
            before = message.role
        if before == "user":
            parts.append(_opening(thinking=thinking))
        return "".join(parts)


def _opening(*, thinking: bool) -> str:
    return _ASSISTANT + ("<think>" if thinking else "</think>")


def _answer(message: Message, *, after_tool: bool) -> str:
    content = message.content
    if message.tool_calls:
        calls = "".join(
            f"<｜tool▁call▁begin｜>{call.name}<｜tool▁sep｜>{arguments_json(call)}<｜tool▁call▁end｜>"
            for call in message.tool_calls
        )
        return f"{content}<｜tool▁calls▁begin｜>{calls}<｜tool▁calls▁end｜>{_END}"
    if not after_tool and "</think>" in content:
        content = content.partition("</think>")[2]
    return content + _END


def _tools(tools: Sequence[Tool]) -> str:
    if not tools:
        return ""
    listed = "".join(
        f"\n### {tool.name}\nDescription: {tool.description}\n\nParameters: {parameters_json(tool, spaced=False)}\n"
        for tool in tools
    )
    return f"\n\n## Tools\nYou have access to the following tools:\n{listed}{_HOW_TO_CALL}"
