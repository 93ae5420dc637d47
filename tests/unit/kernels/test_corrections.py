"""What is put right in the engine's sources: every fault where it is known to be, or no kernels at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from corral.errors import KernelBuildFailed
from corral.kernels.corrections import CHANGES, FAULTS, correct

CORRECTIONS = (*CHANGES, *FAULTS)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder of ggml's with nothing but its faults."""
    texts: dict[str, str] = defaultdict(str)
    for correction in CORRECTIONS:
        texts[correction.file] += f"before {correction.wrong} after\n" * correction.times
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_each_fault_is_put_right_wherever_it_is(sources: Path) -> None:
    correct(sources)
    wanted: Counter[tuple[str, str]] = Counter()
    for correction in CORRECTIONS:
        wanted[correction.file, f"before {correction.right} after"] += correction.times
    assert {(file, line): (sources / file).read_text().count(line) for file, line in wanted} == wanted


@pytest.mark.parametrize("is_there", [True, False])
def test_sources_that_are_not_known_are_not_compiled(sources: Path, is_there: bool) -> None:
    last = CORRECTIONS[-1]
    path = sources / last.file
    path.write_text(path.read_text().replace(last.wrong, "", 1))
    if not is_there:
        path.unlink()
    with pytest.raises(KernelBuildFailed, match=f"{path.name} is not the one that is known"):
        correct(sources)
