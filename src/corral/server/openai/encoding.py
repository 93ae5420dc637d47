"""What OpenAI's JSON is made of: ids, arguments of calls, the encoder. Pure but for chance."""

from __future__ import annotations

import json
import secrets
import string
import time

import msgspec

from corral.core import ToolCall

_ID_LETTERS = string.ascii_lowercase + string.digits
_ID_DIGITS = string.digits + string.ascii_lowercase  # in ASCII's order
_TIME_DIGITS = 12  # of nanoseconds, until the year 2120
encode_json = msgspec.json.Encoder().encode


def new_id(prefix: str, length: int = 24) -> str:
    """A random id such as `chatcmpl-3f…`."""
    return prefix + "".join(secrets.choice(_ID_LETTERS) for _ in range(length))


def ordered_id(prefix: str) -> str:
    """A random id of the same form that sorts by when it was made, within a second too."""
    digits, left = "", time.time_ns()
    for _ in range(_TIME_DIGITS):
        left, digit = divmod(left, len(_ID_DIGITS))
        digits = _ID_DIGITS[digit] + digits
    return new_id(prefix + digits, 12)


def call_id(call: ToolCall) -> str:
    """The call's id; one is made up where the model's form has none."""
    return call.id or new_id("call_", 8)


def arguments_text(call: ToolCall) -> str:
    """A call's arguments as compact JSON text."""
    return json.dumps(call.arguments, ensure_ascii=False, separators=(",", ":"))
