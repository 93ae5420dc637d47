"""Markdown of an answer as a terminal shows it, a finished block at a time. rich draws; imported on use.

A block is a paragraph, a list, a table, or a piece of code up to its closing fence: what comes later cannot change it.
"""

from __future__ import annotations

import io
import re

from rich.console import Console as RichConsole
from rich.markdown import Markdown

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LIST = re.compile(r"\s*(?:[-*+]|\d+[.)])\s|\s{2,}\S")  # an item, or what belongs to one
_MOST_COLUMNS = 100


class MarkdownBlocks:
    """Takes an answer's text piece by piece; gives back what can be written."""

    def __init__(self, columns: int, *, color: bool) -> None:
        self._columns = min(columns, _MOST_COLUMNS)
        self._color = color
        self._text = ""

    def feed(self, text: str) -> str:
        """The blocks that this piece ends, drawn."""
        self._text += text
        end = _end_of_blocks(self._text)
        done, self._text = self._text[:end], self._text[end:]
        return self._drawn(done) if done.strip() else ""

    def finish(self) -> str:
        """The rest, drawn, without a newline at its end."""
        rest, self._text = self._text, ""
        return self._drawn(rest).rstrip("\n") if rest.strip() else ""

    def _drawn(self, text: str) -> str:
        out = io.StringIO()
        console = RichConsole(
            file=out,
            width=self._columns,
            force_terminal=self._color,
            color_system="standard" if self._color else None,
            legacy_windows=False,
        )
        console.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
        return out.getvalue().strip("\n") + "\n\n"


def _end_of_blocks(text: str) -> int:
    """Where the last block ends that nothing after it can change; 0 for none."""
    end = place = 0
    fence = ""
    last = ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        place += len(line)
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence, end = "", place
        elif mark:
            fence = mark[1]
        elif not line.strip() and not _LIST.match(last):
            end = place
        last = line if line.strip() else last
    return end
