"""The owner's guide as data: its code blocks and tables by section, read from ../shared/guide.md at test time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[3] / "shared" / "guide.md"


@dataclass(frozen=True)
class Block:
    """A code block (`kind` is its language) or a table (kind "table", text of its lines) below a heading."""

    section: str
    kind: str
    text: str


def read_blocks(guide: Path = GUIDE) -> list[Block]:
    """All blocks in their order. Raises OSError when there is no guide."""
    section, kind = "", ""
    kept: list[str] = []
    blocks: list[Block] = []
    for line in [*guide.read_text().splitlines(), ""]:
        if (line.startswith("```") and kind not in {"", "table"}) or (kind == "table" and not line.startswith("|")):
            blocks.append(Block(section, kind, "\n".join(kept) + "\n"))
            kind = ""
        elif kind:
            kept.append(line)
        elif line.startswith(("```", "|")):
            kind, kept = (line[3:], []) if line.startswith("```") else ("table", [line])
        elif heading := re.match(r"#+ (.*)", line):
            section = heading[1]
    return blocks


def find_block(section: str, kind: str, guide: Path = GUIDE) -> str:
    """The text of the one block of this kind below a heading."""
    (found,) = [block.text for block in read_blocks(guide) if (block.section, block.kind) == (section, kind)]
    return found


def table_rows(section: str, guide: Path = GUIDE) -> list[list[str]]:
    """The cells of the rows of a section's table, without head and backticks."""
    lines = find_block(section, "table", guide).splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
