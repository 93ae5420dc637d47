"""Borderless tables, byte for byte as Ollama's users' scripts cut them. Pure.

Body cells are padded to their column and followed by four blanks, the last one too; header cells likewise, but one
blank after the last. Source: olekukonko/tablewriter 0.0.5 as ollama uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from wcwidth import wcswidth

_GAP = "    "
_NO_LINE = "  "  # what a cell shows beside a taller one
_TOO_LONG = 100_000  # what a line over the limit costs besides
WRAP_COLUMNS = 30  # cells wider than this are wrapped at blanks; words are never cut


def width_of(text: str) -> int:
    """Columns that a text takes on a terminal; control characters take none."""
    columns = wcswidth(text)
    return columns if columns >= 0 else sum(max(wcswidth(char), 0) for char in text)


def render_table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), *, wrap: int = WRAP_COLUMNS) -> str:
    """The table's lines, each ended by a newline; rows may be of different lengths, and end where their cells do."""
    wrapped = [[_wrapped(cell, wrap) for cell in row] for row in rows]
    columns = max([len(header), *(len(row) for row in wrapped)], default=0)
    widths = [width_of(header[i]) if i < len(header) else 0 for i in range(columns)]
    for row in wrapped:
        for i, cell in enumerate(row):
            widths[i] = max(widths[i], cell.width)
    out = []
    if header:
        out.append(_GAP.join(_padded(title, width) for title, width in zip(header, widths, strict=True)) + " ")
    for row in wrapped:
        for n in range(max((len(cell.lines) for cell in row), default=0)):
            line = (cell.lines[n] if n < len(cell.lines) else _NO_LINE for cell in row)
            out.append("".join(_padded(text, width) + _GAP for text, width in zip(line, widths, strict=False)))
    return "".join(f"{line}\n" for line in out)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell's lines, and the columns it asks for: more than they take when it was wrapped."""

    lines: list[str]
    width: int


def _wrapped(text: str, limit: int) -> _Cell:
    """Break a cell at blanks. A newline counts as a blank, and no line gets wider than the widest was before."""
    paragraphs = text.split("\n")
    asked = min(max(width_of(line) for line in paragraphs), limit)
    words = " ".join(paragraphs).split(" ")
    lines = _least_ragged(words, max(asked, *map(width_of, words)))
    return _Cell(lines, max(asked, *map(width_of, lines)))


def _least_ragged(words: Sequence[str], limit: int) -> list[str]:
    """The lines whose squared distances from the limit add up to the least; the last line's does not count.

    Source: tablewriter wrap.go WrapWords.
    """
    ends = list(accumulate((width_of(word) + 1 for word in words), initial=0))  # each word with a blank before it
    count = len(words)
    costs = [math.inf] * count + [0]
    breaks = [count] * count
    for i in reversed(range(count)):
        if ends[count] - ends[i] - 1 <= limit:
            costs[i] = 0
            continue
        for j in range(i + 1, count):
            room = limit - (ends[j] - ends[i] - 1)
            cost = room * room + (0 if room >= 0 else _TOO_LONG)
            if room < 0 and cost >= costs[i]:
                break  # longer lines cost still more
            if cost + costs[j] < costs[i]:
                costs[i], breaks[i] = cost + costs[j], j
    lines, i = [], 0
    while i < count:
        lines.append(" ".join(words[i : breaks[i]]))
        i = breaks[i]
    return lines
