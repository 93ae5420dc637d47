"""Tools for models that have none of their own: told in the system prompt, written in one fixed form. Pure.

`inference/` turns the conversation with `generic_messages`, binds the reply with `engine_fields(tools=ToolGrammar(…,
GENERIC_FORMAT))` and reads it with a ToolCallParser on `GENERIC_FORMAT.tag`. The grammar makes every call well-formed
and held to its schema, so that even a 135M model can be made to call (tool_choice required or named).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from corral.core import Message, Tool, ToolCall, ToolChoice
from corral.gojson import encode
from corral.prompt.toolformat import GENERIC_FORMAT
from corral.prompt.turns import joined, wrapped


def generic_messages(messages: Sequence[Message], tools: Sequence[Tool], choice: ToolChoice) -> list[Message]:
    """The conversation for a model that knows neither tools nor the role tool."""
    instructions = _instructions(tools, choice)
    rest = [_plain(message) for message in messages]
    if rest and rest[0].role == "system":
        rest[0] = replace(rest[0], content=f"{rest[0].content}\n\n{instructions}")
    else:
        rest.insert(0, Message("system", instructions))
    return _results_joined(rest)


def _instructions(tools: Sequence[Tool], choice: ToolChoice) -> str:
    lines = [
        encode({"name": tool.name, "description": tool.description, "parameters": tool.parameters}, html=False)
        for tool in tools
    ]
    if choice.mode == "named":
        when = f"Answer by calling the function {choice.name}."
    elif choice.mode == "required":
        when = "Answer by calling a function."
    else:
        when = "Call a function when it helps to answer; otherwise answer in plain words."
    form = f"{GENERIC_FORMAT.start}NAME{GENERIC_FORMAT.middle}{{…}}{GENERIC_FORMAT.end}"
    return (
        "You can call these functions, described as JSON, one a line:\n"
        + "\n".join(lines)
        + f"\n\n{when} To call a function, write exactly this, and nothing else:\n{form}\n"
        "The result comes back to you between <tool_response> and </tool_response>."
    )


def _plain(message: Message) -> Message:
    """Calls and results as text."""
    if message.tool_calls:
        calls = "\n".join(_written(call) for call in message.tool_calls)
        content = f"{message.content}\n{calls}" if message.content else calls
        return replace(message, content=content, tool_calls=())
    if message.role == "tool":
        title = f"{message.tool_name}:\n" if message.tool_name else ""
        result = wrapped(message, f"<tool_response>\n{title}", "\n</tool_response>")
        return replace(result, role="user", tool_name="", tool_call_id="")
    return message


def _written(call: ToolCall) -> str:
    arguments = encode(call.arguments, html=False, spaced=True)  # as the grammar writes them
    return f"{GENERIC_FORMAT.start}{call.name}{GENERIC_FORMAT.middle}{arguments}{GENERIC_FORMAT.end}"


def _results_joined(messages: Sequence[Message]) -> list[Message]:
    """Neighbouring results become one user turn: templates want user and assistant to take turns."""
    turns: list[Message] = []
    for message in messages:
        last = turns[-1] if turns else None
        results = message.content.startswith("<tool_response>")
        if last is not None and last.role == message.role == "user" and results:
            turns[-1] = joined(last, message, "\n")
        else:
            turns.append(message)
    return turns
