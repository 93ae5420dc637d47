"""docs/compatibility.md has each agent that is pinned, in its version, in the table that `make peers` writes."""

from __future__ import annotations

from tests.e2e.agents.programs import HERE, PROGRAMS
from tests.e2e.agents.table import BEGIN, END, PAGE, written

CODEX, MCP = "| Codex | 1 | `x` | no |", "| Codex, a tool of an MCP server | 1 | `x` | no |"


def test_each_agent_that_is_pinned_stands_in_the_table_in_its_version() -> None:
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = {tuple(line.strip("| ").split(" | ")[:3]) for line in table.splitlines()}
    pinned = {(program.name, program.pin, f"`{program.api}`") for program in PROGRAMS if program.pin}
    assert pinned - rows == set()
    assert {program.name for program in PROGRAMS} <= {name for name, *_ in rows}


def test_each_folder_of_pins_is_of_an_agent_that_is_run() -> None:
    pins = {path.parent.name for name in ("requirements.lock", "package-lock.json") for path in HERE.glob(f"*/{name}")}
    assert pins == {program.folder for program in PROGRAMS if program.pin}


def test_a_run_writes_its_rows_and_leaves_the_others() -> None:
    page = "\n".join(["before", BEGIN, "| program | version |", "|---|---|", CODEX, MCP, "| gone | 1 |", END, "after"])
    lines = written(page, {"Codex": {"version": "2", "cancel": "yes"}}).splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert [line for line in lines if line.startswith("| ")] == [
        "| program | version | route | streams | tool loop | from the cache | cancel |",
        "| Codex | 2 | `/v1/responses` | not run | not run | not run | yes |",
        MCP,
    ]


def test_what_is_written_again_stays() -> None:
    found = {program.name: {"version": "3", "cancel": "yes"} for program in PROGRAMS}
    once = written(f"a\n{BEGIN}\n{END}\nz\n", found)
    assert written(once, {}) == once
