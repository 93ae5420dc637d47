"""Input items and tools of the Responses API as the shared nouns of core.py. Pure.

Source: ollama openai/responses.go, 2026-08; spec compat-apis §8.2–8.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from corral.api.bodies import list_at, text_at
from corral.core import Message, Notice, Tool, ToolCall
from corral.errors import InvalidRequest
from corral.server.openai.messages import NO_IMAGES, make_tool, name_tool_results, read_arguments, read_image_url

_KINDS = {int: "number", float: "number", bool: "bool", dict: "object"}


def read_input(
    value: Any, fetched: Mapping[str, bytes] = NO_IMAGES, earlier: Sequence[Message] = ()
) -> tuple[Message, ...]:
    """The conversation: `earlier` turns, then those of `input`; `fetched` has the images named by URL.

    Raises InvalidRequest naming the item.
    """
    if value is None or isinstance(value, str):
        return (*earlier, Message("user", value)) if value else tuple(earlier)
    if not isinstance(value, list):
        raise InvalidRequest(
            f"input must be a string or array: got a {_KINDS.get(type(value), 'value')}", field="input"
        )
    reader = _ItemReader(value, fetched)
    for number in range(len(value)):
        reader.read(number)
    return name_tool_results([*earlier, *reader.finish()])


class _ItemReader:
    """Items in order; thinking waits for the assistant's next message."""

    def __init__(self, items: Sequence[Any], fetched: Mapping[str, bytes]) -> None:
        self._items = items
        self._fetched = fetched
        self._messages: list[Message] = []
        self._thinking = ""

    def read(self, number: int) -> None:
        item, where = self._items[number], f"input[{number}]"
        if not isinstance(item, Mapping):
            raise InvalidRequest(f"{where}: expected an object", field=where)
        kind = text_at(item, "type", where) or ("message" if item.get("role") else None)
        if kind == "message":
            self._message(item, where, number)
        elif kind == "function_call":
            self._call(item, where)
        elif kind == "function_call_output":
            text, images = read_parts(item.get("output"), where, "output", self._fetched)
            self._messages.append(Message("tool", text, images=images, tool_call_id=text_at(item, "call_id", where)))
        elif kind == "reasoning":
            self._thinking = "\n".join(part for part in (self._thinking, _reasoning_text(item, where)) if part)
        elif kind is None:
            raise InvalidRequest(f"{where}: input item missing required 'type' field", field=where)
        elif kind not in {"web_search_call", "item_reference"}:
            raise InvalidRequest(f'{where}: unknown input item type: "{kind}"', field=where)

    def finish(self) -> list[Message]:
        """All messages; thinking that nothing followed becomes a message of its own."""
        if self._thinking:
            self._messages.append(Message("assistant", thinking=self._thinking))
        return self._messages

    def _message(self, item: Mapping[str, Any], where: str, number: int) -> None:
        text, images = read_parts(item.get("content"), where, "content", self._fetched)
        role = text_at(item, "role", where).lower()
        if role != "assistant":
            self._messages.append(Message(role, text, images=images))
            return
        thinking, self._thinking = self._thinking, ""
        last = self._messages[-1] if self._messages else None
        if last is not None and last.tool_calls and self._result_follows(number, last):
            joined = "\n".join(part for part in (last.content, text) if part)
            self._messages[-1] = replace(last, content=joined, thinking=thinking or last.thinking)
            return
        self._messages.append(Message("assistant", text, thinking, images))

    def _result_follows(self, number: int, last: Message) -> bool:
        """Whether the next item answers one of `last`'s calls, so that the text between belongs to the call."""
        following = self._items[number + 1] if number + 1 < len(self._items) else None
        if not isinstance(following, Mapping) or following.get("type") != "function_call_output":
            return False
        return following.get("call_id") in [call.id for call in last.tool_calls]

    def _call(self, item: Mapping[str, Any], where: str) -> None:
        arguments = read_arguments(text_at(item, "arguments", where) or "{}")
        if arguments is None:
            raise InvalidRequest("failed to parse function call arguments: expected a JSON object as text", field=where)
        last = self._messages[-1] if self._messages else None
        merge = last is not None and last.role == "assistant"
        calls = last.tool_calls if last is not None and merge else ()
        call = ToolCall(text_at(item, "name", where), arguments, text_at(item, "call_id", where), len(calls))
        thinking, self._thinking = self._thinking, ""
        if last is not None and merge:
            self._messages[-1] = replace(last, tool_calls=(*calls, call), thinking=thinking or last.thinking)
        else:
            self._messages.append(Message("assistant", thinking=thinking, tool_calls=(call,)))


def _reasoning_text(item: Mapping[str, Any], where: str) -> str:
    """The thinking in an item: as Corral sent it, else its content, else what is left of it, a summary."""
    found = text_at(item, "encrypted_content", where)
    for name in ("content", "summary"):
        parts = [part for part in list_at(item, name, where) if isinstance(part, Mapping)]
        found = found or "".join(text_at(part, "text", where) for part in parts)
    return found


def read_parts(content: Any, where: str, name: str, fetched: Mapping[str, bytes]) -> tuple[str, tuple[bytes, ...]]:
    """Texts joined without separator, and images, of a content value; `name` is its field."""
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}: {name} must be a string or array", field=where)
    texts: list[str] = []
    images: list[bytes] = []
    for number, part in enumerate(content):
        at = f"{where}.{name}[{number}]"
        kind = text_at(part, "type", at) if isinstance(part, Mapping) else ""
        if kind in {"input_text", "output_text", "text"}:
            texts.append(text_at(part, "text", at))
        elif kind == "input_image":
            if isinstance(part.get("image_url"), str):
                images.append(read_image_url(part["image_url"], fetched))
        elif kind == "refusal":
            texts.append(text_at(part, "refusal", at))
        elif kind == "input_file":
            raise InvalidRequest("file inputs are not currently supported", field=where)
        else:
            raise InvalidRequest(f"{where}: {name}[{number}]: unknown content type: {kind}", field=where)
    return "".join(texts), tuple(images)


def read_response_tools(items: Sequence[Any], notices: list[Notice], prefix: str = "") -> tuple[Tool, ...]:
    """Flat function tools and namespaces of them; built-in tools need a cloud and are left out, with a notice.

    Raises InvalidRequest naming the entry that cannot be read.
    """
    tools: list[Tool] = []
    for number, item in enumerate(items):
        where = f"tools[{number}]"
        if not isinstance(item, Mapping):
            raise InvalidRequest(f"{where}: expected an object", field="tools")
        kind, name = text_at(item, "type", where), text_at(item, "name", where)
        if kind == "namespace" and isinstance(item.get("tools"), list):
            tools += read_response_tools(item["tools"], notices, f"{name}.")
        elif kind == "function" and name:
            full = name if name.startswith(prefix) else prefix + name
            tools.append(make_tool(full, item.get("description"), item.get("parameters"), where))
        else:
            notices.append(Notice("tool_ignored", f'tool of type "{kind}" is not available here', {"tool": kind}))
    return tuple(tools)
