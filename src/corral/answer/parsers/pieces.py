"""Text that comes in pieces, read up to the next of some marks; what may be the beginning of one waits for more text.

Every character is looked at a bounded number of times, whatever the size of the pieces. `marked.py` reads with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What counts as blank: Go's unicode.IsSpace."""

_BLANK_RUN = re.compile(f"[{BLANKS}]*")


class Marks:
    """Texts that end what stands before them, such as `</think>`; made once per mode."""

    def __init__(self, *marks: str) -> None:
        longest_first = sorted(marks, key=len, reverse=True)
        self._marks = marks
        self.pattern = "|".join(map(re.escape, longest_first))
        self._any = re.compile(self.pattern)
        self._first_chars = re.compile("[" + "".join(re.escape(mark[0]) for mark in marks) + "]")
        self._longest = len(longest_first[0])

    def find(self, text: str, at: int) -> re.Match[str] | None:
        """The first mark in text from `at` on."""
        return self._any.search(text, at)

    def begun(self, text: str, at: int) -> int:
        """Where a mark may have begun that the text's end cuts off; the text's length when none may."""
        at = max(at, len(text) - self._longest + 1)
        while (first := self._first_chars.search(text, at)) is not None:
            at = first.start()
            if any(mark.startswith(text[at:]) for mark in self._marks):
                return at
            at += 1
        return len(text)


class Pieces:
    """The text not read yet."""

    def __init__(self) -> None:
        self._text = ""
        self._at = 0

    def add(self, piece: str) -> None:
        """Takes the next piece."""
        self._text = self._text[self._at :] + piece if self._at < len(self._text) else piece
        self._at = 0

    def until(self, marks: Marks) -> tuple[str, str]:
        """Reads up to the next mark and over it: (text, mark); with no mark, ("text that is surely none", "")."""
        start = self._at
        found = marks.find(self._text, start)
        if found is not None:
            self._at = found.end()
            return self._text[start : found.start()], found.group()
        self._at = marks.begun(self._text, start)
        return self._text[start : self._at], ""

    def up_to(self, end: Callable[[str, int], int]) -> str:
        """Reads up to where `end(text, from)` says."""
        start, self._at = self._at, end(self._text, self._at)
        return self._text[start : self._at]

    def blanks(self) -> str:
        """Reads the blanks that come next."""
        run = _BLANK_RUN.match(self._text, self._at)
        assert run is not None  # the pattern matches nothing, too
        self._at = run.end()
        return run.group()

    def peek(self, size: int) -> str:
        """The next characters, unread; fewer when there are not so many yet."""
        return self._text[self._at : self._at + size]

    def skip(self, size: int) -> None:
        """Reads over characters that `peek` showed."""
        self._at += size

    def rest(self) -> str:
        """Reads all there is."""
        text, self._text, self._at = self._text[self._at :], "", 0
        return text
