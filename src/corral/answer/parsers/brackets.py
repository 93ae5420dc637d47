"""The end of a JSON value that comes in pieces, found by its brackets. ministral.py and laguna.py read with it."""

from __future__ import annotations

import re

from corral.answer.parsers.pieces import Marks


class BracketScan:
    """Reads on with every piece; each character is looked at once.

    depth: brackets open before the first piece. stops: marks that end the reading, even inside of strings. `closed`
    and `stopped` tell that the first bracket is closed, or that a stop comes next.
    """

    def __init__(self, depth: int = 0, stops: Marks | None = None) -> None:
        self.closed = self.stopped = False
        self._depth = depth
        self._stops = stops
        stop = f"|{stops.pattern}" if stops else ""
        self._outside = re.compile(r'["\[\]{}]' + stop)
        self._inside = re.compile(r'["\\]' + stop)
        self._in_string = False
        self._escaped = False

    def end(self, text: str, at: int) -> int:
        """How far text, from `at` on, belongs to the value as far as it is known."""
        if self._escaped and at < len(text):
            self._escaped = False
            at += 1
        while (sign := (self._inside if self._in_string else self._outside).search(text, at)) is not None:
            char, at = sign.group(), sign.end()
            if char == '"':
                self._in_string = not self._in_string
            elif char == "\\":
                self._escaped = at == len(text)
                at = min(at + 1, len(text))
            elif char in "[]{}":
                self._depth += 1 if char in "[{" else -1
                if self._depth == 0 and char in "]}":
                    self.closed = True
                    return at
            else:
                self.stopped = True
                return sign.start()
        return len(text) if self._stops is None else self._stops.begun(text, at)
