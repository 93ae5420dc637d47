"""Elements in text that is XML only in a few known tags; everything else between them is text as it stands.

The reading is that of Go's XML decoder with the text escaped: elements must nest, what follows the root's end does not
count, and errors have Go's words. Used by qwen3coder.py and glm.py. Source: Go encoding/xml, 1.26; ollama
model/parsers/qwen3coder.go, glm46.go, 2026-08. Departures, where Ollama's detour through XML damages the text: line
breaks stay as they are, control characters are no error, and `<word=…>` inside a value is not rewritten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from corral.answer.jsontext import Unreadable


@dataclass(frozen=True, slots=True)
class Child:
    """An element directly in the root: its tag, its `name`, the text directly in it."""

    tag: str
    name: str
    text: str


@dataclass(slots=True)
class Root:
    """The root element; `text` is what stands directly in it."""

    tag: str
    name: str = ""
    text: str = ""
    children: list[Child] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag found in a text."""

    name: str
    closes: bool
    value: str  # of its attribute
    start: int
    end: int
    bad_close: bool = False  # a closing tag with an attribute


def read_tags(pattern: re.Pattern[str], text: str) -> list[Tag]:
    """The tags in a text, by a pattern with the groups `close` and `tag`, and `value` or `quoted` for an attribute."""
    found = []
    for match in pattern.finditer(text):
        groups = match.groupdict()
        closes, quoted = bool(groups["close"]), groups.get("quoted")
        value = quoted if quoted is not None else groups.get("value")
        found.append(Tag(match["tag"], closes, value or "", match.start(), match.end(), closes and value is not None))
    return found


def read_root(text: str, tags: list[Tag], tag: str) -> Root:
    """The first element of a text, which must be a `tag`; raises Unreadable."""
    return _read(_Reader(text, tag, None), tags)


def read_inside(text: str, tags: list[Tag], tag: str) -> Root:
    """An element `tag` whose own tags stand around the text; raises Unreadable."""
    return _read(_Reader(text, tag, Root(tag)), tags)


def _read(reader: _Reader, tags: list[Tag]) -> Root:
    for tag in tags:
        if reader.take(tag):
            return reader.root
    return reader.end()


class _Reader:
    def __init__(self, text: str, tag: str, root: Root | None) -> None:
        self._text = text
        self._tag = tag
        self._around = root is not None  # the root's tags stand around the text
        self._open: list[str] = [root.tag] if root else []
        self._root = root
        self._root_text: list[str] = []
        self._name = ""  # of the child being read
        self._child_text: list[str] = []
        self._at = 0

    @property
    def root(self) -> Root:
        """What was read; only once there is a root."""
        assert self._root is not None
        self._root.text = "".join(self._root_text)
        return self._root

    def take(self, tag: Tag) -> bool:
        """Reads up to a tag and over it; True when that closes the root."""
        self._take_text(tag.start)
        self._at = tag.end
        if tag.closes:
            self._close(tag)
            return not self._open
        self._open.append(tag.name)
        if self._root is None:
            if tag.name != self._tag:
                raise Unreadable(f"expected element type <{self._tag}> but have <{tag.name}>")
            self._root = Root(tag.name, tag.value)
        elif len(self._open) == 2:
            self._name, self._child_text = tag.value, []
        return False

    def end(self) -> Root:
        """The text ended before the root was closed."""
        if self._root is None:
            raise Unreadable("EOF")
        self._take_text(len(self._text))
        if not self._around:
            raise self._error("unexpected EOF", len(self._text))
        if len(self._open) > 1:
            raise self._error(f"element <{self._open[-1]}> closed by </{self._open[0]}>", len(self._text))
        return self.root

    def _take_text(self, end: int) -> None:
        depth = len(self._open)
        if depth in (1, 2):
            (self._root_text if depth == 1 else self._child_text).append(self._text[self._at : end])

    def _close(self, tag: Tag) -> None:
        if tag.bad_close:
            raise self._error(f"invalid characters between </{tag.name} and >", tag.start)
        if not self._open:
            raise self._error(f"unexpected end element </{tag.name}>", tag.end)
        if self._open[-1] != tag.name:
            raise self._error(f"element <{self._open[-1]}> closed by </{tag.name}>", tag.end)
        self._open.pop()
        if len(self._open) == 1 and self._root is not None:
            self._root.children.append(Child(tag.name, self._name, "".join(self._child_text)))

    def _error(self, what: str, at: int) -> Unreadable:
        return Unreadable(f"XML syntax error on line {self._text.count(chr(10), 0, at) + 1}: {what}")
