"""cohere: Command A of 2026 and North, Cohere's platform turns. Source: ollama model/renderers/cohere.go, 2026-08."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from corral.core import Message, Think, Tool
from corral.gojson import encode
from corral.prompt.gorender import thinks
from corral.prompt.renderers.history import role_at, split_system
from corral.prompt.renderers.tooljson import arguments_json, parameters_json

_TURN, _TURN_END = "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"
_SYSTEM, _USER, _CHATBOT = "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"
_TEXT, _TEXT_END = "<|START_TEXT|>", "<|END_TEXT|>"
_THINKING, _THINKING_END = "<|START_THINKING|>", "<|END_THINKING|>"
_BEFORE_ACTION = "\n            \n                "  # the blanks of the model's own template


class Cohere:
    """See registry.Renderer."""

    bos = ""

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt. It thinks unless told not to; an answer without calls at the end is left open."""
        system, turns = split_system(messages)
        platform = (f"{system.content}\n\n\n\n" if system and system.content else "") + _tools(tools)
        parts = [_text_turn(_SYSTEM, platform)]
        numbers = _CallNumbers()
        parts += [_turn(turns, place, numbers) for place in range(len(turns))]
        if not _is_open(turns):
            reasons = think is None or thinks(think)
            parts.append(_TURN + _CHATBOT + _THINKING + ("" if reasons else _THINKING_END))
        return "".join(parts)


class _CallNumbers:
    """Calls are numbered through the conversation; results name their call by its number."""

    def __init__(self) -> None:
        self._count = 0
        self._by_id: dict[str, str] = {}

    def number(self, call_id: str) -> str:
        number = str(self._count)
        self._count += 1
        if call_id:
            self._by_id.setdefault(call_id, number)
        return number

    def of_result(self, message: Message) -> str:
        return self._by_id.get(message.tool_call_id, message.tool_call_id)


def _tools(tools: Sequence[Tool]) -> str:
    """The list of tools, which is there even when it is empty."""
    listed = ",\n\n".join(
        f'\n    {{"name": {encode(tool.name)}, "description": {encode(tool.description)}, '
        f'"parameters": {parameters_json(tool)}, "responses": null}}'
        for tool in tools
    )
    return f"# Available Tools\n```json\n[\n{listed}\n\n\n]\n```"


def _text_turn(speaker: str, text: str) -> str:
    return _TURN + speaker + _TEXT + text + _TEXT_END + _TURN_END


def _turn(turns: Sequence[Message], place: int, numbers: _CallNumbers) -> str:
    message = turns[place]
    match message.role:
        case "system":
            return _text_turn(_SYSTEM, message.content)
        case "user":
            return _text_turn(_USER, message.content)
        case "assistant" | "chatbot":
            return _TURN + _CHATBOT + _answer(message, numbers, is_last=place == len(turns) - 1)
        case "tool" if role_at(turns, place - 1) != "tool":
            results = ",".join(_result(result, numbers) for result in _results(turns, place))
            return f"{_TURN}{_SYSTEM}<|START_TOOL_RESULT|>[{results}\n\n]<|END_TOOL_RESULT|>{_TURN_END}"
        case _:
            return ""


def _answer(message: Message, numbers: _CallNumbers, *, is_last: bool) -> str:
    thinking = f"{_THINKING}{message.thinking}{_THINKING_END}" if message.thinking else ""
    if not message.tool_calls:
        return thinking + _TEXT + message.content + ("" if is_last else _TEXT_END + _TURN_END)
    calls = ",".join(
        f'\n\n    {{"tool_call_id": "{numbers.number(call.id)}", "tool_name": "{call.name}", '
        f'"parameters": {arguments_json(call, spaced=True)}}}'
        for call in message.tool_calls
    )
    return f"{_BEFORE_ACTION}{thinking}<|START_ACTION|>[{calls}\n\n]<|END_ACTION|>{_TURN_END}"


def _results(turns: Sequence[Message], place: int) -> Iterator[Message]:
    while role_at(turns, place) == "tool":
        yield turns[place]
        place += 1


def _result(message: Message, numbers: _CallNumbers) -> str:
    content = encode({"content": message.content}, spaced=True)
    return (
        f'\n    {{\n        "tool_call_id": "{numbers.of_result(message)}",\n        "results": {{\n\n            '
        f'\n            "0": {content}\n\n        }},\n        "is_error": null\n    }}'
    )


def _is_open(turns: Sequence[Message]) -> bool:
    """Whether the conversation ends in an answer that the model goes on with."""
    return bool(turns) and turns[-1].role in ("assistant", "chatbot") and not turns[-1].tool_calls
