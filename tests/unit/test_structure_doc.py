"""docs/structure.md and docs/adr/README.md say what is there, and nothing else."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")


def test_every_module_is_listed_with_its_purpose_and_nothing_else_is() -> None:
    structure = runpy.run_path(str(ROOT / "scripts" / "structure"))
    listed = PAGE.partition(structure["MARK"])[2]
    assert listed == structure["module_lists"](), "run scripts/structure"


def test_the_files_that_the_tour_names_exist() -> None:
    tour = PAGE.partition("## The modules")[0]
    named = set(re.findall(r"`([\w/]+\.py)`", tour))
    files = {path.as_posix() for path in (ROOT / "src" / "corral").rglob("*.py")}
    assert len(named) > 15
    assert [name for name in named if not any(file.endswith(f"/{name}") for file in files)] == []


def test_decisions_are_numbered_in_one_form_and_all_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    titles = {path.name: path.read_text(encoding="utf-8").splitlines()[0] for path in folder.glob("0*.md")}
    assert sorted(int(name[:4]) for name in titles) == list(range(1, len(titles) + 1))
    for name, title in titles.items():
        assert re.fullmatch(rf"# {int(name[:4])}\. \S.*", title), name
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", index, re.M) == [
        (str(int(name[:4])), title.partition(". ")[2], name) for name, title in sorted(titles.items())
    ]
