"""Launch settings: what is chosen without measuring, what measuring remembers, what a user set stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.runner import FakeEngine, FakeLauncher, FakeRunner

from corral.errors import RunnerFailedToStart
from corral.runner import tune
from corral.runner.spec import RunnerSpec
from corral.runner.tune import Tuner, Tuning, candidates

SPEC = RunnerSpec(Path("blobs/sha256-aa"))


@pytest.fixture(autouse=True)
def quiet_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "usable_cores", lambda: 4)
    monkeypatch.setattr(tune, "other_load", lambda: 0.0)


def test_an_unmeasured_model_gets_every_core_and_a_short_spin(tmp_path: Path) -> None:
    chosen = Tuner(tmp_path / "t.json").choose(SPEC)
    assert chosen == Tuning(4)
    assert chosen.environment()["OMP_WAIT_POLICY"] == "active"
    assert chosen.apply(SPEC).n_threads == 4


def test_threads_do_not_spin_on_a_busy_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "other_load", lambda: 3.0)
    assert Tuner(tmp_path / "t.json").choose(SPEC).environment()["OMP_WAIT_POLICY"] == "passive"


def test_what_the_user_set_stays(tmp_path: Path) -> None:
    assert Tuner(tmp_path / "t.json", threads=3).choose(SPEC).n_threads == 3
    own = replace(SPEC, n_threads=7, flash_attention=True)
    assert Tuning(2, flash_attention=False).apply(own) == own


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"x": 1}}'])
def test_a_damaged_file_means_nothing_is_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    assert Tuner(tmp_path / "t.json").choose(SPEC) == Tuning(4)


async def test_the_best_candidate_is_remembered_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {4: 10.0, 2: 30.0, 1: 20.0}
    made: list[FakeRunner] = []

    async def launch(spec: RunnerSpec, _: Tuning) -> FakeRunner:
        made.append(FakeLauncher(FakeEngine(context_window=spec.n_threads)).create(spec))
        return made[-1]

    async def rate(runner: FakeRunner) -> float:
        if runner.spec.n_threads == 1:
            raise RunnerFailedToStart("no room")
        return rates[runner.spec.n_threads]

    monkeypatch.setattr(tune, "_decode_rate", rate)
    best = await Tuner(tmp_path / "t.json").measure(SPEC, launch)
    assert (best.n_threads, best.decode_per_s) == (2, 30.0)
    assert len(made) == len(candidates(4, SPEC)) == 6
    assert Tuner(tmp_path / "t.json").choose(SPEC) == best
    assert len(json.loads((tmp_path / "t.json").read_text())) == 1
    assert Tuner(tmp_path / "t.json").choose(RunnerSpec(Path("other"))) == Tuning(4)


async def test_a_measurement_runs_the_model_and_stops_it() -> None:
    runner = FakeLauncher().create(SPEC)
    assert await tune._decode_rate(runner) > 0
    assert runner.closed.is_set()
