"""Arguments of tool calls in histories, as clients send them back: JSON text, its object, nothing, or text cut short.

| sent                        | read as                                                 |
|-----------------------------|---------------------------------------------------------|
| an object, or its JSON text | itself                                                  |
| null, "", blanks, "null"    | no arguments                                            |
| JSON text as a JSON string  | what that text says                                     |
| text cut short              | one argument, that text: the model sees what it wrote   |
| anything else               | the same by `kept_arguments`, None by `read_arguments`  |

OpenAI does not look into this text at all, so a turn that was cut must not end a session. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BEGUN = re.compile(r'\s*\{\s*"')  # arguments as far as a model may have written them
_UNREAD = "unreadable_arguments"
_MOST_NESTED = 2  # JSON text in JSON strings


def read_arguments(sent: Any) -> dict[str, Any] | None:
    """The arguments; None for what is no object, nor the beginning of one. Numbers keep all their digits."""
    value = sent
    for _ in range(_MOST_NESTED):
        if not isinstance(value, str):
            break
        if not value.strip():
            return {}
        try:
            value = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            return {_UNREAD: sent} if _BEGUN.match(value) else None
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else None


def kept_arguments(sent: Any) -> dict[str, Any]:
    """The arguments; what cannot be read as such is one of its own."""
    read = read_arguments(sent)
    return {_UNREAD: sent} if read is None else read
