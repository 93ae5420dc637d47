"""cogito: Deep Cogito's models on DeepSeek's tokens. Source: ollama model/renderers/cogito.go, 2026-08."""

from __future__ import annotations

from collections.abc import Sequence

from corral.core import Message, Think, Tool, ToolCall
from corral.gojson import encode
from corral.prompt.gorender import thinks
from corral.prompt.renderers.history import role_at, split_system
from corral.prompt.renderers.tooljson import arguments_json, tool_fields

_BEGIN, _END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
_ASSISTANT = "<｜Assistant｜>"
_IDENTITY = (
    "You are Cogito, an AI assistant created by Deep Cogito, which is an AI research lab based in San Francisco."
)


class Cogito:
    """See registry.Renderer."""

    bos = _BEGIN

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; thinking has to be asked for."""
        system, turns = split_system(messages)
        parts = [_BEGIN, _system(system.content if system else "", tools, thinking=thinks(think))]
        parts += [_turn(turns, place) for place in range(len(turns))]
        spoken = [message.role for message in turns if message.role in ("user", "assistant", "tool")]
        if not spoken or spoken[-1] != "user":
            parts.append(_ASSISTANT)
        if thinks(think):
            parts.append("<think>\n")
        return "".join(parts)


def _system(own: str, tools: Sequence[Tool], *, thinking: bool) -> str:
    text = _IDENTITY + (f"\n\n{own}" if own else "")
    if thinking:
        text = f"Enable deep thinking subroutine.\n\n{text}" + ("\n\n" if own else "")
    if tools:
        text += "\nYou have the following functions available:\n"
    return text + "".join(f"```json\n{encode(tool_fields(tool), indent=4)}\n```\n" for tool in tools)


def _turn(turns: Sequence[Message], place: int) -> str:
    message = turns[place]
    match message.role:
        case "user":
            return f"<｜User｜>{message.content}{_ASSISTANT}"
        case "assistant":
            return message.content + _calls(message.tool_calls) + _END
        case "tool":
            begin = "" if role_at(turns, place - 1) == "tool" else "<｜tool▁outputs▁begin｜>"
            end = "\n" if role_at(turns, place + 1) == "tool" else "<｜tool▁outputs▁end｜>"
            return f"{begin}<｜tool▁output▁begin｜>{message.content}<｜tool▁output▁end｜>{end}"
        case _:
            return ""


def _calls(calls: Sequence[ToolCall]) -> str:
    if not calls:
        return ""
    written = (
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{call.name}\n```json\n{arguments_json(call)}\n```<｜tool▁call▁end｜>"
        for call in calls
    )
    return "<｜tool▁calls▁begin｜>" + "\n".join(written) + "<｜tool▁calls▁end｜>"
