"""docs/guide-coverage.md against the guide and the tests: every block is listed, every named test exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.fakes.guide import GUIDE, read_blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guide-coverage.md"


def listed() -> list[tuple[str, str, str]]:
    """(section, block, tests) of the page's rows."""
    rows = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [(cells[0].strip(), cells[1].strip(), cells[2]) for cells in rows[1:]]


def test_every_named_test_exists() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    defined = {name for path in files for name in re.findall(r"def (test_\w+)", path.read_text())}
    names = re.findall(r"`(?:[\w/]*/)?(test_\w+)(\.py)?`", PAGE.read_text())
    assert len(names) > 40
    for name, suffix in names:
        known = {path.name for path in (ROOT / "tests").rglob("test_*.py")} if suffix else defined
        assert name + suffix in known, name


def test_every_row_names_a_test() -> None:
    for section, block, tests in listed():
        assert re.search(r"`test_\w+(\.py)?`", tests), (section, block)


def test_every_block_of_the_guide_is_listed() -> None:
    if not GUIDE.exists():
        pytest.skip("../shared (guide, golden answers) is not beside this checkout")
    blocks = [(block.section, block.kind) for block in read_blocks()]
    assert len(blocks) == len(set(blocks))
    assert [(section, kind) for section, kind, _ in listed()] == blocks
