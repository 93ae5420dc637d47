"""Launch settings: what is chosen without measuring, what measuring remembers, what a user set stays."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.fakes.runner import FakeEngine, FakeLauncher, FakeRunner

from corral.errors import RunnerFailedToStart
from corral.runner import tune
from corral.runner.candidates import Speed, Tuning
from corral.runner.hostload import HostLoad
from corral.runner.spec import RunnerSpec
from corral.runner.tune import Trial, Tuner

SPEC = RunnerSpec(Path("blobs/sha256-aa"))


class Load(HostLoad):
    """Others leave this many of four cores."""

    free = 4

    def free_cores(self) -> int:
        return self.free


def tuner_at(path: Path, threads: int = 0, free: int = 4) -> Tuner:
    load = Load()
    load.free = free
    return Tuner(path, load, threads)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "usable_cores", lambda: 4)


def test_an_unmeasured_model_gets_every_core_and_a_short_spin(tmp_path: Path) -> None:
    chosen = tuner_at(tmp_path / "t.json").choose(SPEC)
    assert chosen == Tuning(4)
    assert tune.openmp_environment(chosen)["OMP_WAIT_POLICY"] == "active"
    assert chosen.apply(SPEC).n_threads == 4


def test_what_others_take_is_left_to_them(tmp_path: Path) -> None:
    assert tuner_at(tmp_path / "t.json", free=3).choose(SPEC) == Tuning(3)
    assert tuner_at(tmp_path / "t.json", free=2, threads=4).choose(SPEC) == Tuning(4)


@pytest.mark.parametrize(
    ("launched", "free", "outdated"),
    [(4, 4, False), (4, 3, True), (2, 4, True), (8, 7, False), (16, 12, True), (1, 1, False)],
)
def test_a_runner_is_outdated_when_a_quarter_of_its_threads_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launched: int, free: int, outdated: bool
) -> None:
    monkeypatch.setattr(tune, "usable_cores", lambda: 64)
    tuner = tuner_at(tmp_path / "t.json", free=free)
    assert tuner.outdated(SPEC, replace(SPEC, n_threads=launched)) is outdated
    own = replace(SPEC, n_threads=launched)
    assert tuner.outdated(own, own) is False  # the user's number is no choice of ours


def test_a_runner_is_outdated_when_a_measurement_has_chosen_otherwise(tmp_path: Path) -> None:
    tuner = tuner_at(tmp_path / "t.json")
    launched = tuner.choose(SPEC).apply(SPEC)
    assert not tuner.outdated(SPEC, launched)
    tuner._known[tune.tuning_key(SPEC, tuner.host)] = Tuning(4, flash_attention=False)
    assert tuner.outdated(SPEC, launched)


def test_what_the_user_set_stays(tmp_path: Path) -> None:
    assert tuner_at(tmp_path / "t.json", threads=3).choose(SPEC).n_threads == 3
    own = replace(SPEC, n_threads=7, flash_attention=True)
    assert Tuning(2, flash_attention=False).apply(own) == own


def test_a_runner_is_outdated_by_its_threads_for_prompts_and_by_its_weights(tmp_path: Path) -> None:
    tuner = tuner_at(tmp_path / "t.json")
    launched = tuner.choose(SPEC).apply(SPEC)
    for found in (Tuning(4, prompt_threads=2), Tuning(4, repacks=False)):
        tuner._known[tune.tuning_key(SPEC, tuner.host)] = found
        assert tuner.outdated(SPEC, launched)
        assert not tuner.outdated(SPEC, tuner.choose(SPEC).apply(SPEC))


def test_threads_for_prompts_are_no_more_than_others_leave(tmp_path: Path) -> None:
    tuner = tuner_at(tmp_path / "t.json", free=3)
    tuner._known[tune.tuning_key(SPEC, tuner.host)] = Tuning(2, prompt_threads=4)
    assert tuner.choose(SPEC) == Tuning(2, prompt_threads=3)
    assert tune.openmp_environment(tuner.choose(SPEC))["OMP_NUM_THREADS"] == "3"
    assert Tuning(2, prompt_threads=4).apply(replace(SPEC, n_threads=1)).prompt_threads == 0


def test_a_file_of_an_older_version_is_still_known(tmp_path: Path) -> None:
    key = tune.tuning_key(SPEC, tuner_at(tmp_path / "t.json").host)
    (tmp_path / "t.json").write_text(json.dumps({key: {"n_threads": 2, "spin": 1000, "flash_attention": False}}))
    assert tuner_at(tmp_path / "t.json").choose(SPEC) == Tuning(2, flash_attention=False)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"x": 1}}'])
def test_a_damaged_file_means_nothing_is_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    assert tuner_at(tmp_path / "t.json").choose(SPEC) == Tuning(4)


class Host:
    """Rates by (threads, flash attention); counts what was tried, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rates: dict[tuple[int, bool | None], float]) -> None:
        self.rates = rates
        self.tried: list[tuple[int, bool | None]] = []
        monkeypatch.setattr(tune, "_speed", self.speed)

    def launch(self, spec: RunnerSpec, _: Tuning) -> FakeRunner:
        return FakeLauncher(FakeEngine()).create(spec)

    async def speed(self, runner: FakeRunner, _: int) -> Speed:
        key = (runner.spec.n_threads, runner.spec.flash_attention)
        self.tried.append(key)
        if key not in self.rates:
            raise RunnerFailedToStart("no room")
        return Speed(self.rates[key], self.rates[key], self.rates[key])


async def measured(tuner: Tuner, host: Host, spec: RunnerSpec = SPEC, **wish: float) -> list[Trial]:
    return [trial async for trial in tuner.measure(spec, host.launch, **wish)]


async def test_the_best_candidate_is_remembered_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, {(4, None): 10.0, (2, None): 30.0, (2, False): 40.0})
    trials = await measured(tuner_at(tmp_path / "t.json"), host)
    best = trials[-1].tuning
    assert (best.n_threads, best.flash_attention, best.decode_per_s) == (2, False, 40.0)
    assert host.tried == [(4, None), (2, None), (1, None), (2, False), (4, None)]
    assert str(trials[-1]) == (
        "chosen: 2 threads, flash attention off (rounds otherwise: greedy answers may differ where two words are as"
        " likely), reads 40 and answers 40.0 tokens/s"
    )
    assert [trial.chosen for trial in trials] == [False] * 5 + [True]
    again = tuner_at(tmp_path / "t.json")
    assert again.choose(SPEC) == best
    assert again.knows(SPEC)
    assert len(json.loads((tmp_path / "t.json").read_text())) == 1
    assert again.choose(RunnerSpec(Path("other"))) == Tuning(4)


async def test_what_is_hardly_faster_than_the_default_is_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, {(4, None): 30.0, (2, None): 31.0, (1, None): 32.0, (1, False): 32.5})
    assert (await measured(tuner_at(tmp_path / "t.json"), host))[-1].tuning == Tuning(
        4, decode_per_s=30.0, read_per_s=30.0
    )


async def test_a_spent_budget_keeps_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, {(4, None): 30.0, (2, None): 90.0})
    tuner = tuner_at(tmp_path / "t.json")
    assert (await measured(tuner, host, budget_s=0.0))[-1].tuning == Tuning(4, decode_per_s=30.0, read_per_s=30.0)
    assert host.tried == [(4, None)]
    assert tuner.knows(SPEC)


async def test_a_model_that_does_not_run_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, {})
    tuner = tuner_at(tmp_path / "t.json")
    assert (await measured(tuner, host))[-1].tuning == Tuning(4)
    assert host.tried == [(4, None)]
    assert not tuner.knows(SPEC)


async def test_what_the_user_set_is_not_varied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, {(3, True): 30.0})
    await measured(tuner_at(tmp_path / "t.json"), host, replace(SPEC, n_threads=3, flash_attention=True))
    assert host.tried == [(3, True)]


async def test_a_spent_budget_ends_with_the_default_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, {(4, None): 30.0, (2, None): 90.0})
    trials = tuner_at(tmp_path / "t.json").measure(SPEC, host.launch, budget_s=5.0)
    clock = itertools.chain([0.0, 1.0], itertools.repeat(6.0))  # begun, before two threads, before the others
    monkeypatch.setattr("corral.runner.tune.time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert [trial async for trial in trials][-1].tuning.n_threads == 2
    assert host.tried == [(4, None), (2, None), (4, None)]


async def test_a_step_is_measured_over_a_prompt_of_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    async def speed(runner: FakeRunner, prompt_tokens: int) -> Speed:
        asked.append((runner.spec.n_batch, prompt_tokens, runner.spec.context_window))
        return Speed(600 - runner.spec.n_batch, 10, 100)

    monkeypatch.setattr(tune, "_speed", speed)
    spec = replace(SPEC, paced=True, n_threads=4, flash_attention=True)
    tuner = tuner_at(tmp_path / "t.json")
    trials = [trial async for trial in tuner.measure(spec, lambda s, _: FakeLauncher(FakeEngine()).create(s))]
    assert asked == [(512, 1536, 1600), (256, 1536, 1600), (512, 1536, 1600)]
    assert trials[-1].tuning.step == 256
    assert tuner.choose(spec).apply(spec).n_batch == 512  # the plan makes it smaller, where nobody has set it


async def test_cancelling_a_measurement_stops_its_runner(tmp_path: Path) -> None:
    made: list[FakeRunner] = []

    def launch(spec: RunnerSpec, _: Tuning) -> FakeRunner:
        made.append(FakeLauncher(FakeEngine(hang_after=1)).create(spec))
        return made[-1]

    async def consume() -> None:
        async for _ in tuner_at(tmp_path / "t.json").measure(SPEC, launch):
            pass

    task = asyncio.create_task(consume())
    async with asyncio.timeout(30):
        while not made or not made[0].engine.active:
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert made[0].closed.is_set()
    assert not (tmp_path / "t.json").exists()


async def test_a_measurement_runs_the_model_and_stops_it() -> None:
    runner = FakeLauncher().create(SPEC)
    speed = await tune._speed(runner, 300)
    assert 0 < speed.tokens_per_s < speed.decode_per_s  # the prompt counts too
    assert runner.closed.is_set()
