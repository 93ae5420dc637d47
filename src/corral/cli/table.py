"""Borderless tables, byte for byte as Ollama's users' scripts cut them. Pure.

Body cells are padded to their column and followed by four blanks, the last one too; header cells likewise, but one
blank after the last. Source: olekukonko/tablewriter 0.0.5 as ollama uses it.
"""

from __future__ import annotations

from collections.abc import Sequence

from wcwidth import wcswidth

_GAP = "    "
WRAP_COLUMNS = 30  # cells wider than this are wrapped at blanks; words are never cut


def width_of(text: str) -> int:
    """Columns that a text takes on a terminal; control characters take none."""
    columns = wcswidth(text)
    return columns if columns >= 0 else sum(max(wcswidth(char), 0) for char in text)


def render_table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), *, wrap: int = WRAP_COLUMNS) -> str:
    """The table's lines, each ended by a newline; rows may be of different lengths."""
    cells = [[_wrapped(cell, wrap) for cell in row] for row in rows]
    columns = max([len(header), *(len(row) for row in rows)], default=0)
    widths = [width_of(header[i]) if i < len(header) else 0 for i in range(columns)]
    for row in cells:
        for i, lines in enumerate(row):
            widths[i] = max(widths[i], *(width_of(line) for line in lines))
    out = []
    if header:
        out.append(_GAP.join(_padded(title, width) for title, width in zip(header, widths, strict=True)) + " ")
    for row in cells:
        padded = [*row, *([""] for _ in range(columns - len(row)))]
        for n in range(max((len(lines) for lines in padded), default=0)):
            line = (lines[n] if n < len(lines) else "" for lines in padded)
            out.append("".join(_padded(cell, width) + _GAP for cell, width in zip(line, widths, strict=True)))
    return "".join(f"{line}\n" for line in out)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _wrapped(text: str, limit: int) -> list[str]:
    """A cell's lines: broken at newlines, and at blanks where a line is wider than the limit or its widest word."""
    lines: list[str] = []
    for line in text.split("\n"):
        words = line.split()
        if width_of(line) <= limit or len(words) < 2:
            lines.append(line)
            continue
        widest = max(limit, *(width_of(word) for word in words))
        current = words[0]
        for word in words[1:]:
            if width_of(current) + 1 + width_of(word) <= widest:
                current += f" {word}"
            else:
                lines.append(current)
                current = word
        lines.append(current)
    return lines
