"""The table of docs/compatibility.md, of what test_agents.py found: `make peers` runs this behind the tests.

A program that was not run keeps the row that it has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.agents.programs import BUILD, PROGRAMS, Program

PAGE = Path(__file__).resolve().parents[3] / "docs" / "compatibility.md"
BEGIN, END = "<!-- made by make peers -->", "<!-- end of what make peers made -->"
COLUMNS = ("streams", "tool loop", "from the cache", "cancel")
_FOUND = BUILD / "found.json"  # removed before the tests, so that it is of one run

Found = Mapping[str, Mapping[str, str]]  # a program's name to a column's to what it says there


def _found() -> dict[str, dict[str, str]]:
    """Nothing where no program could be run."""
    return json.loads(_FOUND.read_text()) if _FOUND.exists() else {}


def note(program: Program, **cells: str) -> None:
    """Keep what a test has found; `tool_loop` stands for the column `tool loop`."""
    found = _found()
    row = found.setdefault(program.name, {"version": program.version})
    row.update({name.replace("_", " "): cell for name, cell in cells.items()})
    _FOUND.write_text(json.dumps(found))


def written(page: str, found: Found) -> str:
    """The page with a row for each program that was run."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines() if line.startswith("| ")}
    for program in PROGRAMS:
        if cells := found.get(program.name):
            ends = [cells.get(column, "not run") for column in COLUMNS]
            rows[program.name] = f"| {' | '.join([program.name, cells['version'], f'`{program.api}`', *ends])} |"
    titles = ["program", "version", "route", *COLUMNS]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    lines += [rows[program.name] for program in PROGRAMS if program.name in rows]
    return "\n".join([before + BEGIN, "", *lines, "", END]) + after


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text(), _found()))


if __name__ == "__main__":
    main()
