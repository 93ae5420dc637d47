"""OpenAI's chat messages, tools and choices, as the shared nouns of core.py. Pure; used by chat.py and responses.py.

Texts of one message are joined by a blank line (as Ollama joins turns of one role); images stay between them.
Source of rules and texts: ollama openai/openai.go FromChatRequest, 2026-08; spec compat-apis §4.2–4.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from corral.api.arguments import ArgumentReader
from corral.api.bodies import decode_base64, decode_data_url, list_at, text_at
from corral.api.parts import Parts
from corral.core import Message, Think, Tool, ToolCall, ToolChoice
from corral.errors import InvalidRequest
from corral.inference.preparing.sounds import is_sound

_GO_KINDS = {str: "string", bool: "bool", int: "float64", float: "float64", list: "[]interface {}"}
_EFFORTS: Mapping[str, Think] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}

NO_IMAGES: Mapping[str, bytes] = {}


def read_messages(items: Sequence[Any], fetched: Mapping[str, bytes] = NO_IMAGES) -> tuple[Message, ...]:
    """Chat messages of a request; `fetched` has the images named by URL. Raises InvalidRequest with Ollama's texts."""
    messages: list[Message] = []
    arguments = ArgumentReader()
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise InvalidRequest("invalid message format", field="messages")
        where = f"messages[{number}]"
        role, name = text_at(item, "role", where).lower(), text_at(item, "name", where)
        if role == "function":
            role = "tool"  # OpenAI's older word; the name says whose result it is
        elif role == "developer":
            role = "system"  # OpenAI's newer word for it
        message = _content(item, role, fetched).message(
            role,
            thinking=text_at(item, "reasoning", where) or text_at(item, "reasoning_content", where),
            tool_calls=_tool_calls(item, where, arguments, is_last=number == len(items) - 1),
            tool_name=name if role == "tool" else "",
            tool_call_id=text_at(item, "tool_call_id", where),
        )
        if item.get("content") == [] and message == Message(role) and role != "tool":
            continue  # Ollama makes a turn of each part, so none of none
        messages.append(message)
    if not messages:
        raise InvalidRequest("messages have no content", field="messages")
    return name_tool_results(messages)


def name_tool_results(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Fill in the tool's name on results that only carry a call's id.

    The last message with such a call decides, in it the first.
    """
    names = {call.id: call.name for message in messages for call in reversed(message.tool_calls) if call.id}
    return tuple(
        replace(message, tool_name=names[message.tool_call_id])
        if message.role == "tool" and not message.tool_name and message.tool_call_id in names
        else message
        for message in messages
    )


def _content(item: Mapping[str, Any], role: str, fetched: Mapping[str, bytes]) -> Parts:
    content, parts = item.get("content"), Parts("\n\n")
    if isinstance(content, str):
        parts.add_text(content)
    elif isinstance(content, list):
        for part in content:
            _read_part(part, parts, fetched)
    elif content is not None or not (role in {"assistant", "tool"} or item.get("tool_calls") is not None):
        raise InvalidRequest(f"invalid message content type: {go_kind(content)}", field="messages")
    if not parts and isinstance(item.get("refusal"), str):
        parts.add_text(item["refusal"])
    return parts


def go_kind(value: Any) -> str:
    """A JSON value's type as Go prints it, for errors that Ollama's clients know by their text."""
    return "<nil>" if value is None else _GO_KINDS.get(type(value), "map[string]interface {}")


def _read_part(part: Any, parts: Parts, fetched: Mapping[str, bytes]) -> None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    text = part.get(kind) if kind in ("text", "refusal") else None  # a tuple: clients send types that have no hash
    if isinstance(text, str):
        parts.add_text(text)
    elif kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if not isinstance(url, str):
            raise InvalidRequest("invalid message format", field="messages")
        parts.add_image(read_image_url(url, fetched))
    elif kind == "input_audio":
        parts.add_image(_read_audio(part.get("input_audio")))
    else:
        raise InvalidRequest("invalid message format", field="messages")


def read_image_url(url: str, fetched: Mapping[str, bytes] = NO_IMAGES) -> bytes:
    """The bytes of a data URL, or of one that was fetched; raises InvalidRequest for anything else."""
    if url in fetched:
        return fetched[url]
    if url.startswith(("http://", "https://")):
        raise InvalidRequest(
            "image URLs are not currently supported, please use base64 encoded data instead", field="image_url"
        )
    data = decode_data_url(url)
    if not data:
        raise InvalidRequest("invalid image input", field="image_url")
    return data


def _read_audio(audio: Any) -> bytes:
    if not isinstance(audio, Mapping):
        raise InvalidRequest("invalid input_audio format", field="input_audio")
    if not isinstance(audio.get("data"), str):
        raise InvalidRequest("invalid input_audio format: missing data", field="input_audio")
    data = decode_base64(audio["data"])
    if data is None:
        raise InvalidRequest("invalid input_audio base64 data: illegal base64 data", field="input_audio")
    if not is_sound(data):
        raise InvalidRequest("input_audio is no WAV, MP3 or FLAC sound", field="input_audio")
    return data


def _tool_calls(
    item: Mapping[str, Any], where: str, arguments: ArgumentReader, *, is_last: bool
) -> tuple[ToolCall, ...]:
    """Earlier calls of the assistant, OpenAI's older single one among them.

    Arguments that are none are the client's mistake in the very last message; before, they are what a model wrote.
    """
    calls = list_at(item, "tool_calls", where)
    if not calls and isinstance(item.get("function_call"), Mapping):
        calls = [{"function": item["function_call"]}]
    read: list[ToolCall] = []
    for call in calls:
        at = f"{where}.tool_calls[{len(read)}]"
        function = (call.get("function") or {}) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            raise InvalidRequest("invalid message format", field="tool_calls")
        sent = function.get("arguments")
        values = arguments.read(sent) if is_last else arguments.keep(sent)
        if values is None:
            raise InvalidRequest("invalid tool call arguments", field="tool_calls")
        name, call_id = text_at(function, "name", f"{at}.function"), text_at(call, "id", at)
        read.append(ToolCall(name, values, call_id, len(read)))
    return tuple(read)


def read_tools(items: Sequence[Any]) -> tuple[Tool, ...]:
    """Tool definitions in the nested form. Raises InvalidRequest naming the entry."""
    tools = []
    for number, item in enumerate(items):
        function = item.get("function") if isinstance(item, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidRequest(f"tools[{number}]: expected a function with a name", field="tools")
        tools.append(
            make_tool(function["name"], function.get("description"), function.get("parameters"), f"tools[{number}]")
        )
    return tuple(tools)


def make_tool(name: str, description: Any, parameters: Any, where: str) -> Tool:
    """A tool of its three parts. Raises InvalidRequest when the schema is no object."""
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidRequest(f"{where}: parameters must be a JSON schema object", field="tools")
    return Tool(name, description if isinstance(description, str) else "", dict(parameters or {}))


def allowed_tools(value: Any, tools: Sequence[Tool]) -> tuple[Any, tuple[Tool, ...]]:
    """(choice, tools): what `tool_choice: {"type": "allowed_tools"}` leaves of the tools, and its mode as the choice.

    Anything else is given back as it is. Raises InvalidRequest naming a tool that is not there.
    """
    if not isinstance(value, Mapping) or value.get("type") != "allowed_tools":
        return value, tuple(tools)
    inner = value.get("allowed_tools", value)
    listed = inner.get("tools") if isinstance(inner, Mapping) else None
    if not isinstance(listed, list):
        raise InvalidRequest("tool_choice: allowed_tools must list its tools", field="tool_choice")
    entries = [entry.get("function", entry) if isinstance(entry, Mapping) else None for entry in listed]
    named = [entry["name"] for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)]
    known = {tool.name: tool for tool in tools}
    for name in named:
        if name not in known:
            raise InvalidRequest(f'tool_choice allows "{name}", which is not among the tools', field="tool_choice")
    return inner.get("mode", "auto"), tuple(known[name] for name in dict.fromkeys(named))


def read_tool_choice(value: Any, tools: Sequence[Tool], *, parallel: bool | None = None) -> ToolChoice:
    """`tool_choice`: auto, none, required, or one function by name. Raises InvalidRequest for anything else."""
    together = parallel is not False
    if value is None or value in ("auto", "none", "required"):
        return ToolChoice(value or "auto", parallel=together)
    function = value.get("function", value) if isinstance(value, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise InvalidRequest('tool_choice must be "auto", "none", "required" or a named function', field="tool_choice")
    if name not in {tool.name for tool in tools}:
        raise InvalidRequest(f'tool_choice names "{name}", which is not among the tools', field="tool_choice")
    return ToolChoice("named", name, parallel=together)


def read_effort(effort: str | None) -> Think:
    """Reasoning effort as `think`; None when unset. Raises InvalidRequest with Ollama's text."""
    if not effort:
        return None
    if effort not in _EFFORTS:
        words = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
        raise InvalidRequest(f'invalid reasoning value: "{effort}" (must be {words})', field="reasoning")
    return _EFFORTS[effort]


def read_stop(value: Any) -> list[str] | None:
    """`stop`: one string, or a list of which the strings count; None when unset."""
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else None
