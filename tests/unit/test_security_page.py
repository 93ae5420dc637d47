"""docs/security.md names every file of tests/security, and only what is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_and_the_folder_agree() -> None:
    named = set(re.findall(r"`(tests/security/\w+\.py)`", (ROOT / "docs" / "security.md").read_text()))
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "security").glob("test_*.py")}
    assert named == there
