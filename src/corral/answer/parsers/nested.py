"""Values between commas and in brackets, as in `a, [b, {c: d}]`, found in one pass, with a bound on the nesting.

The formats differ in what hides commas and brackets (quotes, `<escape>`), and in what a bare value means: olmo3.py and
functiongemma.py say so. Source: ollama model/parsers/olmo3.go splitArguments, functiongemma.go, 2026-08. Departure:
Ollama's olmo3 drops the second and later bytes of every character that is not ASCII; here texts stay whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from corral.answer.jsontext import Unreadable
from corral.answer.parsers.pieces import BLANKS

_DEEPEST = 100
_QUOTED = re.compile(r"""\s*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+')""", re.DOTALL)
STRINGS = r""""[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|'[^'\\]*+(?:\\.[^'\\]*+)*+(?:'|\\?\Z)"""
"""A pattern of what stands between quotes; without a closing one it is all the rest."""
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


@dataclass(slots=True)
class _Part:
    """Text between two commas, from start to end, and the brackets directly in it."""

    start: int
    end: int = -1
    groups: list[_Group] = field(default_factory=list)


@dataclass(slots=True)
class _Group:
    """A pair of brackets at start and end - 1, and the parts in it."""

    start: int
    end: int = -1
    parts: list[_Part] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a format writes values. signs: its brackets, commas, and whatever may hide them, each as one match.

    scalar: what text that is no list and no object means. blanks: around values they mean nothing, and a value may be
    empty; without it, empty ones do not count.
    """

    signs: re.Pattern[str]
    scalar: Callable[[str], Any]
    key: Callable[[str], str]
    blanks: bool

    def members(self, text: str, separator: str) -> Iterator[tuple[str, Any]]:
        """Keys and values of `key SEPARATOR value, …`.

        Raises Unreadable when it is nested too deeply and, with `blanks`, for a part without the separator; else such a
        part does not count.
        """
        return self._members(text, _parts(self.signs, text), separator)

    def _members(self, text: str, parts: list[_Part], separator: str) -> Iterator[tuple[str, Any]]:
        for part in parts:
            written = text[part.start : part.end]
            if not (written.strip(BLANKS) if self.blanks else written):
                continue
            at = self._separator(written, separator)
            if at < 0:
                if self.blanks:
                    raise Unreadable(f"invalid argument format: {written.strip(BLANKS)}")
                continue
            yield self.key(written[:at]), self._value(text, part, part.start + at + len(separator))

    def _separator(self, written: str, separator: str) -> int:
        """Where the separator stands; not in a key between quotes."""
        quoted = _QUOTED.match(written) if self.blanks else None
        return written.find(separator, quoted.end() if quoted else 0)

    def _value(self, text: str, part: _Part, start: int) -> Any:
        end = part.end
        if self.blanks:
            while start < end and text[start] in BLANKS:
                start += 1
            while start < end and text[end - 1] in BLANKS:
                end -= 1
        groups = [group for group in part.groups if group.start >= start]
        whole = len(groups) == 1 and (groups[0].start, groups[0].end) == (start, end)
        if whole and text[start] != "(" and text[end - 1] == _CLOSERS[text[start]]:
            return self._group(text, groups[0])
        return self.scalar(text[start:end])

    def _group(self, text: str, group: _Group) -> Any:
        if text[group.start] == "{":
            return dict(self._members(text, group.parts, ":"))
        return [self._value(text, part, part.start) for part in self._items(text, group.parts)]

    def _items(self, text: str, parts: list[_Part]) -> list[_Part]:
        """The parts that are items of a list."""
        if not self.blanks:
            return [part for part in parts if part.start < part.end]
        last = parts[-1]
        if last.start == last.end or (len(parts) == 1 and not text[last.start : last.end].strip(BLANKS)):
            return parts[:-1]
        return parts


def _parts(signs: re.Pattern[str], text: str) -> list[_Part]:
    """The parts of a text. Brackets that close nothing keep commas from counting until as many have opened."""
    top = _Group(-1, parts=[_Part(0)])
    stack = [top]
    below = 0
    for match in signs.finditer(text):
        sign, at = match.group(), match.start()
        inner = stack[-1]
        if sign in _CLOSERS:
            if below:
                below -= 1
                continue
            if len(stack) > _DEEPEST:
                raise Unreadable("exceeded max depth")
            group = _Group(at, parts=[_Part(at + 1)])
            inner.parts[-1].groups.append(group)
            stack.append(group)
        elif sign in _CLOSERS.values():
            if inner is top:
                below += 1
                continue
            inner.parts[-1].end, inner.end = at, at + 1
            stack.pop()
        elif sign == "," and not below:
            inner.parts[-1].end = at
            inner.parts.append(_Part(at + 1))
    for unclosed in stack:
        unclosed.parts[-1].end = len(text)
    return top.parts
