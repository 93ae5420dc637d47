"""How fast models read: what counts, what is kept, and what a plan makes of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from corral.runner.reading import NOTHING_READ, Reading, ReadingSpeeds
from corral.runner.spec import RunnerSpec

SPEC = RunnerSpec(Path("/models/blobs/sha256-a"), n_batch=32, paced=True, work_per_token=2e9)
OTHER = replace(SPEC, model_path=Path("/models/blobs/sha256-b"))


def speeds_at(path: Path, host: str = "this host") -> ReadingSpeeds:
    speeds = ReadingSpeeds(path)
    speeds.begin(host)
    return speeds


def timings(tokens: int, took_s: float) -> dict[str, float]:
    return {"prompt_n": tokens, "prompt_ms": took_s * 1000}


def test_the_median_of_the_newest_prompts_stands(tmp_path: Path) -> None:
    speeds = speeds_at(tmp_path / "reading.json")
    tally = speeds.of(SPEC)
    for took_s in (50.0, 1.0, 1.0, 4.0, 1.0, 2.0):  # the first is forgotten, the slow ones stand beside others' work
        tally.note(timings(100, took_s))
    assert speeds.known(SPEC.model_path) == Reading(100.0, 2e11)


@pytest.mark.parametrize(
    "found", [timings(95, 1.0), timings(0, 0.0), {}], ids=["less than three steps", "nothing read", "no timings"]
)
def test_what_says_nothing_is_not_counted(tmp_path: Path, found: dict[str, float]) -> None:
    speeds = speeds_at(tmp_path / "reading.json")
    speeds.of(SPEC).note(found)
    assert speeds.known(SPEC.model_path) == NOTHING_READ


def test_a_model_that_has_read_nothing_goes_by_the_others(tmp_path: Path) -> None:
    speeds = speeds_at(tmp_path / "reading.json")
    speeds.of(SPEC).note(timings(200, 1.0))
    assert speeds.known(OTHER.model_path) == Reading(0.0, 4e11)


def test_what_trials_of_launch_settings_found_counts_too(tmp_path: Path) -> None:
    speeds = speeds_at(tmp_path / "reading.json")
    speeds.measured(SPEC, 300.0, 128)
    assert speeds.known(SPEC.model_path) == Reading(300.0, 6e11, 128)
    speeds.save()
    assert speeds_at(tmp_path / "reading.json").known(SPEC.model_path) == Reading(300.0, 6e11, 128)
    speeds.measured(SPEC, 0.0, 0)
    assert speeds.known(SPEC.model_path) == Reading(300.0, 6e11, 0)


def test_models_on_a_device_are_not_asked(tmp_path: Path) -> None:
    speeds = speeds_at(tmp_path / "reading.json")
    speeds.of(replace(SPEC, paced=False)).note(timings(200, 1.0))
    assert speeds.known(SPEC.model_path) == NOTHING_READ


def test_what_is_known_outlives_the_server_but_not_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "home" / "reading.json"
    speeds = speeds_at(path)
    speeds.save()
    assert not path.exists()
    speeds.of(SPEC).note(timings(200, 1.0))
    speeds.save()
    assert speeds_at(path).known(SPEC.model_path) == Reading(200.0, 4e11)
    assert speeds_at(path, "other kernels").known(SPEC.model_path) == NOTHING_READ
    speeds.begin("other kernels")
    assert speeds.known(SPEC.model_path) == NOTHING_READ


@pytest.mark.parametrize("text", ["", "[]", '{"host": "this host", "models": {"a": {"tokens_per_s": "x"}}}'])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "reading.json"
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        speeds = speeds_at(path)
    assert speeds.known(SPEC.model_path) == NOTHING_READ
    assert "reading.json is not usable" in caplog.text
