"""docs/reliability.md names a test in every row; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    faults = [row for row in rows if not row.startswith("| fault |")]
    assert len(faults) > 30
    assert [row for row in faults if not re.search(r"\| `tests/[\w/]+\.py(::\w+)?` \|$", row)] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_named_test_exists(file: str, name: str) -> None:
    source = (ROOT / file).read_text()
    assert re.search(rf"^(async )?def {name + '[(]' if name else 'test_'}", source, re.MULTILINE), (
        f"{file} has no {name}"
    )
