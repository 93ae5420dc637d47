"""What OpenAI's JSON is made of: ids, arguments of calls, the encoder. Pure but for chance."""

from __future__ import annotations

import json
import secrets
import string

import msgspec

from corral.core import ToolCall

_ID_LETTERS = string.ascii_lowercase + string.digits
encode_json = msgspec.json.Encoder().encode


def new_id(prefix: str, length: int = 24) -> str:
    """A random id such as `chatcmpl-3f…`."""
    return prefix + "".join(secrets.choice(_ID_LETTERS) for _ in range(length))


def call_id(call: ToolCall) -> str:
    """The call's id; one is made up where the model's form has none."""
    return call.id or new_id("call_", 8)


def arguments_text(call: ToolCall) -> str:
    """A call's arguments as compact JSON text."""
    return json.dumps(call.arguments, ensure_ascii=False, separators=(",", ":"))
