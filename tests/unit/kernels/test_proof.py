"""Packs are judged by margins, not by ties; one that crashes or answers otherwise is refused and says how."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import KernelBuildFailed
from corral.gguf import read_header
from corral.kernels.proof import Step, compare, prove
from corral.kernels.sources import SDISTS, fetch_sources
from corral.kernels.tinymodel import write_tiny_model
from corral.runner.kernels import BACKEND, BASE, REFUSED, Pack, engine_version

STEPS: list[Step] = [(number, -1.0, -3.0) for number in range(8)]


def changed(at: int, step: Step) -> list[Step]:
    return [*STEPS[:at], step, *STEPS[at + 1 :]]


def test_the_same_answer_is_no_difference() -> None:
    assert compare(STEPS, STEPS) == ""
    assert compare(STEPS, changed(3, (3, -1.05, -3.0))) == ""


def test_another_token_or_probability_is() -> None:
    assert compare(STEPS, changed(5, (99, -1.0, -3.0))) == "token 5 is 99 instead of 5"
    assert "log probability of token 2" in compare(STEPS, changed(2, (2, -1.2, -3.0)))
    assert compare(STEPS, STEPS[:5]) == "5 tokens instead of 8"


def test_a_tie_may_fall_either_way_but_not_at_once() -> None:
    tie = (99, -1.0, -1.05)
    wanted = changed(5, (5, -1.0, -1.05))
    assert compare(wanted, changed(5, tie)) == ""
    assert compare(changed(1, (1, -1.0, -1.05)), changed(1, tie)) == "token 1 is 99 instead of 1"


def test_the_tiny_model_has_the_types_that_kernels_differ_in_and_is_always_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tiny_model(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    kinds = {tensor.type_name for tensor in read_header(tmp_path / "a").tensors}
    assert {"Q4_0", "Q4_1", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16"} <= kinds


def test_a_pack_that_is_no_library_is_refused(tmp_path: Path) -> None:
    for name in (BASE, BACKEND):
        (tmp_path / name).write_bytes(b"\x7fELF nonsense")
    state, why = prove(Pack(tmp_path))
    assert state == REFUSED
    assert why


def test_the_pinned_engines_sources_have_a_digest() -> None:
    assert engine_version() in SDISTS


def test_sources_of_an_unknown_engine_are_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(KernelBuildFailed, match="no digest is known"):
        fetch_sources("0.0.0", tmp_path, lambda command, folder: pytest.fail("nothing is run"))
