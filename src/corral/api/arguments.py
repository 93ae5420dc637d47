"""Arguments of tool calls in histories, as clients send them back: JSON text, its object, nothing, or text cut short.

| sent                        | read as                                                 |
|-----------------------------|---------------------------------------------------------|
| an object, or its JSON text | itself                                                  |
| null, "", blanks, "null"    | no arguments                                            |
| JSON text as a JSON string  | what that text says                                     |
| text cut short              | one argument, that text: the model sees what it wrote   |
| anything else               | the same by `keep`, None by `read`                      |

OpenAI does not look into this text at all, so a turn that was cut must not end a session. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from corral.jsonbudget import PartBudget

_BEGUN = re.compile(r'\s*\{\s*"')  # arguments as far as a model may have written them
_UNREAD = "unreadable_arguments"
_MOST_NESTED = 2  # JSON text in JSON strings


class ArgumentReader:
    """Reads the arguments of all calls of one request; together their texts have no more parts than a body may have."""

    def __init__(self) -> None:
        self._budget = PartBudget()

    def read(self, sent: Any) -> dict[str, Any] | None:
        """The arguments; None for what is no object, nor the beginning of one. Numbers keep all their digits.

        Raises InvalidRequest for more levels or parts than there may be.
        """
        value = sent
        for _ in range(_MOST_NESTED):
            if not isinstance(value, str):
                break
            if not value.strip():
                return {}
            self._budget.take(value.encode("utf-8", "surrogatepass"))
            try:
                value = json.loads(value, strict=False)
            except (ValueError, RecursionError):
                return {_UNREAD: sent} if _BEGUN.match(value) else None
        if value is None:
            return {}
        return dict(value) if isinstance(value, Mapping) else None

    def keep(self, sent: Any) -> dict[str, Any]:
        """The arguments; what cannot be read as such is one of its own. Raises InvalidRequest as `read` does."""
        read = self.read(sent)
        return {_UNREAD: sent} if read is None else read
