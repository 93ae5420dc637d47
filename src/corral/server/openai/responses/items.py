"""Input items of the Responses API as the shared nouns of core.py. Pure.

| item                                                  | becomes                                              |
|-------------------------------------------------------|------------------------------------------------------|
| message                                               | a turn                                               |
| function_call, custom_tool_call, those of built-in tools | a call in the assistant's turn                    |
| …_output                                              | its result                                           |
| mcp_call, code_interpreter_call                       | both                                                 |
| reasoning                                             | thinking of the assistant's next turn                |
| additional_tools, tool_search_output                  | tools that may be called                             |
| lists and approvals of MCP, web_search_call           | nothing: they are no part of what was said           |
| compaction, image_generation_call …                   | nothing, and a notice: only OpenAI can read them     |
| anything else                                         | InvalidRequest                                       |

Source: ollama openai/responses.go, 2026-08, and OpenAI's SDK types; spec compat-apis §8.2-8.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from corral.api.arguments import ArgumentReader
from corral.api.bodies import list_at, text_at
from corral.api.parts import Parts
from corral.core import Message, Notice, ToolCall
from corral.errors import InvalidRequest
from corral.prompt.turns import joined
from corral.server.openai.messages import NO_IMAGES, name_tool_results, read_image_url
from corral.server.openai.responses.tools import full_name

_KINDS = {int: "number", float: "number", bool: "bool", dict: "object"}
_BUILT_IN = {  # item -> (the tool's name, the field with its arguments)
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
    "computer_call": ("computer", "action"),
    "tool_search_call": ("tool_search", "arguments"),
}
_NO_TURNS = ("web_search_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response")
_UNREADABLE = (
    "compaction",
    "compaction_summary",
    "compaction_trigger",
    "context_compaction",
    "file_search_call",
    "image_generation_call",
    "item_reference",
)
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


class InputReader:
    """Reads items in order; thinking waits for the assistant's next message.

    `tools` has the raw entries of tools that items bring, `notices` what is left out.
    """

    def __init__(self, fetched: Mapping[str, bytes] = NO_IMAGES) -> None:
        self.tools: list[Any] = []
        self.notices: list[Notice] = []
        self._fetched = fetched
        self._items: Sequence[Any] = ()
        self._arguments = ArgumentReader()
        self._messages: list[Message] = []
        self._thinking = ""

    def read(self, value: Any, earlier: Sequence[Message] = ()) -> tuple[Message, ...]:
        """The conversation: `earlier` turns, then those of `input`. Raises InvalidRequest naming the item."""
        if value is None or isinstance(value, str):
            return (*earlier, Message("user", value)) if value else tuple(earlier)
        if not isinstance(value, list):
            raise InvalidRequest(
                f"input must be a string or array: got a {_KINDS.get(type(value), 'value')}", field="input"
            )
        self._items = value
        for number in range(len(value)):
            self._read(number)
        if self._thinking:  # that nothing followed
            self._messages.append(Message("assistant", thinking=self._thinking))
        return name_tool_results([*earlier, *self._messages])

    def _read(self, number: int) -> None:
        item, where = self._items[number], f"input[{number}]"
        if not isinstance(item, Mapping):
            raise InvalidRequest(f"{where}: expected an object", field=where)
        kind = text_at(item, "type", where) or ("message" if item.get("role") else "")
        if not kind:
            raise InvalidRequest(f"{where}: input item missing required 'type' field", field=where)
        if kind == "message":
            self._message(item, where, number)
        elif kind == "reasoning":
            self._thinking = "\n".join(part for part in (self._thinking, _reasoning_text(item, where)) if part)
        elif kind in ("additional_tools", "tool_search_output"):
            self.tools += list_at(item, "tools", where)
        elif kind in _UNREADABLE:
            text = f"{where}: an item of type {kind} cannot be read here and was left out"
            self.notices.append(Notice("item_ignored", text, {"item": kind}))
        elif reader := self._reader(kind):
            reader(item, where)
        elif kind not in _NO_TURNS:
            raise InvalidRequest(f'{where}: unknown input item type: "{kind}"', field=where)

    def _reader(self, kind: str) -> Callable[[Mapping[str, Any], str], None] | None:
        """What reads items of calls and results."""
        readers = {
            "function_call": self._function_call,
            "custom_tool_call": self._custom_call,
            "mcp_call": self._mcp_call,
            "code_interpreter_call": self._code_call,
        }
        if kind in _BUILT_IN:
            return self._built_in_call
        return self._output if kind.endswith("_call_output") else readers.get(kind)

    def _message(self, item: Mapping[str, Any], where: str, number: int) -> None:
        parts = Parts()
        read_parts(item.get("content"), f"{where}: content", parts, self._fetched)
        role = text_at(item, "role", where).lower()
        if role == "developer":
            role = "system"  # OpenAI's newer word for it
        if role != "assistant":
            self._messages.append(parts.message(role))
            return
        thinking, self._thinking = self._thinking, ""
        message = parts.message(role, thinking=thinking)
        last = self._messages[-1] if self._messages else None
        if last is not None and last.tool_calls and self._result_follows(number, last):
            self._messages[-1] = replace(joined(last, message, "\n"), thinking=thinking or last.thinking)
            return
        self._messages.append(message)

    def _result_follows(self, number: int, last: Message) -> bool:
        """Whether the next item answers one of `last`'s calls, so that the text between belongs to the call."""
        following = self._items[number + 1] if number + 1 < len(self._items) else None
        if not isinstance(following, Mapping) or not str(following.get("type")).endswith("_call_output"):
            return False
        return following.get("call_id") in [call.id for call in last.tool_calls]

    def _function_call(self, item: Mapping[str, Any], where: str) -> None:
        name = full_name(text_at(item, "namespace", where), text_at(item, "name", where))
        self._call(item, where, name, item.get("arguments"))

    def _custom_call(self, item: Mapping[str, Any], where: str) -> None:
        name = full_name(text_at(item, "namespace", where), text_at(item, "name", where))
        self._call(item, where, name, {"input": text_at(item, "input", where)})

    def _built_in_call(self, item: Mapping[str, Any], where: str) -> None:
        name, field = _BUILT_IN[item["type"]]
        self._call(item, where, name, item.get(field))

    def _mcp_call(self, item: Mapping[str, Any], where: str) -> None:
        self._call(item, where, text_at(item, "name", where), item.get("arguments"))
        output = item.get("output") if item.get("output") is not None else item.get("error")
        self._messages.append(self._result(item, where, output))

    def _code_call(self, item: Mapping[str, Any], where: str) -> None:
        self._call(item, where, "code_interpreter", {"code": text_at(item, "code", where)})
        self._messages.append(self._result(item, where, item.get("outputs")))

    def _call(self, item: Mapping[str, Any], where: str, name: str, sent: Any) -> None:
        last = self._messages[-1] if self._messages else None
        merge = last is not None and last.role == "assistant"
        calls = last.tool_calls if last is not None and merge else ()
        call = ToolCall(name, self._arguments.keep(sent), _call_id(item, where), len(calls))
        thinking, self._thinking = self._thinking, ""
        if last is not None and merge:
            self._messages[-1] = replace(last, tool_calls=(*calls, call), thinking=thinking or last.thinking)
        else:
            self._messages.append(Message("assistant", thinking=thinking, tool_calls=(call,)))

    def _output(self, item: Mapping[str, Any], where: str) -> None:
        output = item.get("output") if item.get("output") is not None else item.get("status")
        self._messages.append(self._result(item, where, output))

    def _result(self, item: Mapping[str, Any], where: str, output: Any) -> Message:
        parts = Parts()
        screenshot = isinstance(output, Mapping) and isinstance(output.get("image_url"), str)
        if screenshot:
            parts.add_image(read_image_url(output["image_url"], self._fetched))
        elif isinstance(output, str) or (isinstance(output, list) and all(map(_is_part, output))):
            read_parts(output, f"{where}: output", parts, self._fetched)
        elif output is not None:
            parts.add_text(msgspec.json.encode(output).decode())
        return parts.message("tool", tool_call_id=_call_id(item, where))


def _call_id(item: Mapping[str, Any], where: str) -> str:
    return text_at(item, "call_id", where) or text_at(item, "id", where)


def _is_part(value: Any) -> bool:
    """Whether a value is a content part; results of shells and interpreters are lists of other objects."""
    return isinstance(value, Mapping) and value.get("type") in (*_TEXTS, "input_image", "refusal", "input_file")


def _reasoning_text(item: Mapping[str, Any], where: str) -> str:
    """The thinking in an item: as Corral sent it, else its content, else what is left of it, a summary."""
    found = text_at(item, "encrypted_content", where)
    for name in ("content", "summary"):
        parts = [part for part in list_at(item, name, where) if isinstance(part, Mapping)]
        found = found or "".join(text_at(part, "text", where) for part in parts)
    return found


def read_parts(content: Any, where: str, parts: Parts, fetched: Mapping[str, bytes]) -> None:
    """Add the texts and images of a content value; `where` names item and field. Raises InvalidRequest."""
    if isinstance(content, str):
        parts.add_text(content)
        return
    at = where.partition(":")[0]
    if content is None:
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a string or array", field=at)
    for number, part in enumerate(content):
        kind = text_at(part, "type", f"{where}[{number}]") if isinstance(part, Mapping) else ""
        if kind in _TEXTS:
            parts.add_text(text_at(part, "text", f"{where}[{number}]"))
        elif kind == "input_image":
            if not isinstance(part.get("image_url"), str):
                why = "images can be read from image_url only, not by file_id"
                raise InvalidRequest(f"{where}[{number}]: {why}", field=at)
            parts.add_image(read_image_url(part["image_url"], fetched))
        elif kind == "refusal":
            parts.add_text(text_at(part, "refusal", f"{where}[{number}]"))
        elif kind == "input_file":
            raise InvalidRequest("file inputs are not currently supported", field=at)
        else:
            raise InvalidRequest(f"{where}[{number}]: unknown content type: {kind}", field=at)
