"""What stands in a model's small layers: params, messages, texts. Reading for `ModelStore.load`, writing for create.

Source of the encodings: ollama server/images.go GetModel, server/create.go setParameters and setMessages, 2026-08.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from corral.core import Message, ToolCall
from corral.errors import InvalidRequest
from corral.gojson import encode_blob
from corral.jsonbudget import PartBudget, wide_bytes
from corral.store import manifests as media

MAX_TEXT_LAYER_BYTES = 4 * 2**20  # a template, a system prompt, a license: a few kilobytes each
MAX_PARAMS_BYTES = 2**20
MAX_MESSAGES_BYTES = 64 * 2**20  # they may carry images
_MAX_BYTES = {media.CONFIG: 2**20, media.MESSAGES: MAX_MESSAGES_BYTES, media.PARAMS: MAX_PARAMS_BYTES}


def max_bytes(media_type: str) -> int:
    """How long a small layer of this type may be."""
    return _MAX_BYTES.get(media_type, MAX_TEXT_LAYER_BYTES)


def encode_params(parameters: Mapping[str, Any]) -> bytes:
    """A params blob: a JSON object with sorted keys."""
    return encode_blob(dict(parameters), sort_keys=True)


def parse_params(raw: bytes) -> dict[str, Any]:
    """Read a params blob; raises InvalidRequest."""
    value = _parse_json(raw, "params")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("params are no JSON object")
    return value


def encode_messages(messages: Sequence[Message]) -> bytes:
    """A messages blob: a JSON array of messages in Ollama's key order, empty fields but role and content left out."""
    return encode_blob([_message_to_json(message) for message in messages])


def parse_messages(raw: bytes) -> tuple[Message, ...]:
    """Read a messages blob; raises InvalidRequest."""
    value = _parse_json(raw, "messages")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InvalidRequest("messages are no JSON array of objects")
    return tuple(_message_from_json(entry) for entry in value)


def decode_text(raw: bytes) -> str:
    """A text layer's text; bytes that are no UTF-8 become U+FFFD."""
    return raw.decode("utf-8", "replace")


def _parse_json(raw: bytes, what: str) -> Any:
    """The first value of a layer that anybody may have made; large ones have to be strict JSON, with nothing behind."""
    layer = f"the layer of {what}"
    PartBudget(layer).take(raw)
    try:
        if len(raw) > MAX_TEXT_LAYER_BYTES:  # as one text it could take four times as much
            if wide_bytes(raw, layer) > 4 * MAX_TEXT_LAYER_BYTES:
                raise InvalidRequest(f"the texts of {layer} are too long")
            return msgspec.json.decode(raw)
        return json.JSONDecoder().raw_decode(raw.decode("utf-8", "replace").lstrip())[0]
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} are no JSON") from error


def _message_to_json(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    optional: dict[str, Any] = {
        "thinking": message.thinking,
        "images": [base64.b64encode(image).decode() for image in message.images],
        "tool_calls": [_tool_call_to_json(call) for call in message.tool_calls],
        "tool_name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    return entry | {key: value for key, value in optional.items() if value}


def _tool_call_to_json(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": dict(sorted(call.arguments.items()))}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _message_from_json(entry: Mapping[str, Any]) -> Message:
    texts: dict[str, Any] = {
        key: entry.get(key) or "" for key in ("role", "content", "thinking", "tool_name", "tool_call_id")
    }
    if not all(isinstance(text, str) for text in texts.values()):
        raise InvalidRequest("a message's field is no string")
    images, calls = entry.get("images") or [], entry.get("tool_calls") or []
    if not isinstance(images, list) or not isinstance(calls, list):
        raise InvalidRequest("a message's images or tool calls are no list")
    try:
        decoded = tuple(base64.b64decode(image) for image in images)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidRequest("a message's image is no base64") from error
    return Message(**texts, images=decoded, tool_calls=tuple(_tool_call_from_json(call) for call in calls))


def _tool_call_from_json(entry: Any) -> ToolCall:
    function = entry.get("function") if isinstance(entry, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest("a tool call has no function")
    name, arguments, index = function.get("name") or "", function.get("arguments") or {}, function.get("index") or 0
    if not isinstance(name, str) or not isinstance(arguments, dict) or not isinstance(index, int):
        raise InvalidRequest("a tool call's function is not readable")
    return ToolCall(name, arguments, id=str(entry.get("id") or ""), index=index)
