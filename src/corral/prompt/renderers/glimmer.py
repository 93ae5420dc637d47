"""glimmer: Muse Glimmer, messages to recipients and calls in ATEM tags.

Source: ollama model/renderers/glimmer.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from corral.core import Message, Think, Tool, ToolCall
from corral.gojson import encode
from corral.prompt.gorender import thinks
from corral.prompt.govalues import printed
from corral.prompt.renderers.history import role_at
from corral.prompt.renderers.imagetags import ImageTags
from corral.prompt.renderers.tooljson import parameters_json, value_json

_BEGIN, _START, _MESSAGE = "<|begin_of_text|>", "<|start|>", "<|message|>"
_END_MESSAGE, _END_TURN = "<|eom|>", "<|eot|>"
_IDENTITY = "You are a helpful AI assistant."
_KNOWLEDGE_CUTOFF = "2026-01-04"
_REASONING_WORDS = (
    ("Reasoning effort", "Reasoning strength"),
    ("Reasoning Effort", "Reasoning Strength"),
    ("reasoning effort", "reasoning strength"),
    ("REASONING EFFORT", "REASONING STRENGTH"),
)
_BEFORE_TOOLS = """\
In this environment you have access to a set of tools you can use to answer the user's question.

You can invoke a function by writing a "<atem:function_calls>" block like the following:
<atem:function_calls>
<atem:invoke name="$FUNCTION_NAME">
<atem:parameter name="$PARAMETER_NAME">$PARAMETER_VALUE</atem:parameter>
...
</atem:invoke>
</atem:function_calls>

String and scalar parameters should be specified as is, while lists and objects should use JSON format. Note that \
spaces for string values are not stripped. The output is not expected to be valid XML and is parsed with regular \
expressions.
Here are the functions available in JSONSchema format:
// Tool metadata
"""
_BEHIND_TOOLS = """

Here's an example of how to call a function in the tool set:
(If the tool namespace is not specified, invoke the function directly as `example_function_name` rather than \
`example_tool_name.example_function_name`)

to=example_tool_name.example_function_name

<atem:function_calls>
<atem:invoke name="example_tool_name.example_function_name">
<atem:parameter name="example_parameter_1">value_1</atem:parameter>
<atem:parameter name="example_parameter_2">This is the value for the second parameter
that can span
"multiple" lines
</atem:parameter>
</atem:invoke>
</atem:function_calls>"""


def local_date() -> date:
    """Today, where this server stands."""
    return datetime.now(UTC).astimezone().date()


class Glimmer:
    """See registry.Renderer. `today` is told to the model when the conversation has no system message."""

    bos = _BEGIN

    def __init__(self, today: Callable[[], date] = local_date) -> None:
        self._today = today

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], think: Think) -> str:
        """The prompt; how hard to think stands in the system message as a word."""
        strength = _strength(think)
        parts = [_BEGIN]
        if not any(message.role == "system" for message in messages):
            facts = f"{_IDENTITY}\nKnowledge cutoff: {_KNOWLEDGE_CUTOFF}.\nCurrent date: {self._today()}."
            parts.append(_system(f"{facts}\n\nReasoning strength: {strength}.", tools))
        images, names = ImageTags(), _names_by_id(messages)
        for place, message in enumerate(messages):
            content = images.place(message)
            match message.role:
                case "system":
                    parts.append(_system(_own_system(content, strength), tools))
                case "user":
                    parts.append(_message("user", content, _END_TURN))
                case "tool":
                    parts.append(_result(message, content, names))
                case "assistant":
                    again = role_at(messages, place + 1) == "assistant"
                    parts.append(_answer(message, content, _END_MESSAGE if again else _END_TURN))
        return "".join([*parts, _START, "assistant"])


def _strength(think: Think) -> str:
    if think is not None and not thinks(think):
        return "none"
    return think if isinstance(think, str) else "high"


def _message(header: str, content: str, end: str) -> str:
    return _START + header + _MESSAGE + content + end


def _system(content: str, tools: Sequence[Tool]) -> str:
    namespaces = list(dict.fromkeys(tool.name.partition(".")[0] for tool in tools))
    recipients = ", ".join(['"self"', *(f'"{namespace}.*"' for namespace in namespaces), '"user"'])
    told = f"\n\n{_tools(tools, namespaces)}" if tools else ""
    return _message("system", f"{content}{told}\n\n# Valid recipients: {recipients}.", _END_TURN)


def _own_system(content: str, strength: str) -> str:
    """The caller's system text, with the strength of reasoning unless it speaks of that itself."""
    for theirs, ours in _REASONING_WORDS:
        content = content.replace(theirs, ours)
    if "reasoning strength" in content.lower():
        return content
    return f"{content}\n\nReasoning strength: {strength}."


def _tools(tools: Sequence[Tool], namespaces: Sequence[str]) -> str:
    metadata = "".join(f'{{"name": {_json_text(namespace)}, "description": ""}}\n' for namespace in namespaces)
    schemas = "".join(
        f'\n{{"name": {_json_text(tool.name)}, "description": {_json_text(tool.description)}, '
        f'"parameters": {parameters_json(tool, html=False)}}}'
        for tool in tools
    )
    return f"{_BEFORE_TOOLS}{metadata}// Function schemas{schemas}{_BEHIND_TOOLS}"


def _json_text(text: str) -> str:
    return encode(text, html=False)


def _names_by_id(messages: Sequence[Message]) -> dict[str, str]:
    return {call.id: call.name for message in messages for call in message.tool_calls}


def _result(message: Message, content: str, names: dict[str, str]) -> str:
    called_by = message.tool_call_id
    name = message.tool_name or (names.get(called_by, called_by) if called_by else "")
    return _message(f"tool {name}", f'<tool_output name="{name}">\n{content}\n</tool_output>', _END_TURN)


def _answer(message: Message, content: str, end_of_calls: str) -> str:
    """Thoughts go to the model itself, calls to their tool, text to the user; beside calls there is no text."""
    thought = _message("assistant to=self", message.thinking, _END_MESSAGE) if message.thinking else ""
    if message.tool_calls:
        ends = [_END_MESSAGE] * (len(message.tool_calls) - 1) + [end_of_calls]
        return thought + "".join(map(_call, message.tool_calls, ends))
    if content or not message.thinking:
        return thought + _message("assistant to=user", content, _END_TURN)
    return thought


def _call(call: ToolCall, end: str) -> str:
    arguments = "".join(
        f'<atem:parameter name="{name}">{_value(value)}</atem:parameter>\n' for name, value in call.arguments.items()
    )
    invoke = (
        f'<atem:function_calls>\n<atem:invoke name="{call.name}">\n{arguments}</atem:invoke>\n</atem:function_calls>'
    )
    return _message(f"assistant to={call.name}", invoke, end)


def _value(value: Any) -> str:
    if value is None:
        return "null"
    return value_json(value, html=False, spaced=True) if isinstance(value, dict | list) else printed(value)
