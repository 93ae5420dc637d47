"""Titled sections of rows, as `show` prints them; `show --remote` prints the same form."""

from __future__ import annotations

from collections.abc import Iterable

from corral.cli.table import WRAP_COLUMNS, render_table

TEXT_COLUMNS = 100  # wrap limit of System and License
_HEAD_LINES = 2  # lines of System and License that are shown

Row = tuple[str, ...]


def section(title: str, rows: Iterable[Row], *, wrap: int = WRAP_COLUMNS) -> str:
    """A titled table, indented, with a blank line after it."""
    return f"  {title}\n" + render_table([("", *row) for row in rows], wrap=wrap) + "\n"


def head(text: str) -> list[Row]:
    """The first lines of a long text, as rows."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    shown = lines[:_HEAD_LINES] + (["..."] if len(lines) > _HEAD_LINES else [])
    return [(line,) for line in shown]
