"""olmo3, olmo3.1, olmo3-think, olmo3-32b-think: Ai2's Olmo 3 and 3.1.

Source: ollama model/renderers/olmo3.go, olmo3_think.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.core import Message, Think, Tool, ToolCall
from corral.gojson import encode
from corral.prompt.renderers.tooljson import sorted_arguments, tool_fields, value_json

_START, _END = "<|im_start|>", "<|im_end|>\n"
ASSISTANT = "You are a helpful AI assistant."
FUNCTION_CALLER = "You are a helpful function-calling AI assistant."
OLMO = (
    "You are Olmo, a helpful AI assistant built by Ai2. Your date cutoff is December 2024, and your model weights are "
    "available at https://huggingface.co/allenai."
)
_NO_FUNCTIONS = "You do not currently have access to any functions. "
_FUNCTIONS = (
    "You are provided with function signatures within <functions></functions> XML tags. You may call one or more "
    "functions to assist with the user query. Output any function calls within <function_calls></function_calls> XML "
    "tags. Do not make assumptions about what values to plug into functions."
)


class Olmo3:
    """See registry.Renderer. `identity` is told when the conversation has no system message."""

    bos = ""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; these models do not think. The first system message counts, text at the end is left open."""
        turns = [message for message in messages if message.role != "system"]
        parts = [f"{_START}system\n{self._system(messages, tools)}{_END}"]
        parts += [_turn(message, is_last=place == len(turns) - 1) for place, message in enumerate(turns)]
        if not (turns and turns[-1].role == "assistant" and turns[-1].content and not turns[-1].tool_calls):
            parts.append(f"{_START}assistant\n")
        return "".join(parts)

    def _system(self, messages: Sequence[Message], tools: Sequence[Tool]) -> str:
        listed = encode([tool_fields(tool) for tool in tools], spaced=True) if tools else ""
        functions = f"<functions>{listed}</functions>"
        own = _first_system(messages)
        if own is not None:
            return own + (functions if tools else "")
        return f"{self._identity} {_FUNCTIONS if tools else _NO_FUNCTIONS}{functions}"


class Olmo3Think:
    """See registry.Renderer. Tools and their results are left out: these models know none."""

    bos = ""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; these models always think."""
        own = _first_system(messages)
        system = self._identity if own is None else f"{own} {_NO_FUNCTIONS}<functions></functions>"
        turns = (
            f"{_START}{message.role}\n{message.content}{_END}"
            for message in messages
            if message.role in ("user", "assistant")
        )
        return "".join([f"{_START}system\n{system}{_END}", *turns, f"{_START}assistant\n<think>"])


def _first_system(messages: Sequence[Message]) -> str | None:
    return next((message.content for message in messages if message.role == "system"), None)


def _turn(message: Message, *, is_last: bool) -> str:
    match message.role:
        case "user":
            return f"{_START}user\n{message.content}{_END}"
        case "assistant":
            calls = "\n".join(map(_call, message.tool_calls))
            said = message.content + (f"<function_calls>{calls}</function_calls>" if message.tool_calls else "")
            return f"{_START}assistant\n{said}" + ("" if is_last and not message.tool_calls else _END)
        case "tool":
            return f"{_START}environment\n{message.content}{_END}"
        case _:
            return ""


def _call(call: ToolCall) -> str:
    return f"{call.name}({', '.join(f'{name}={value_json(value)}' for name, value in sorted_arguments(call))})"
