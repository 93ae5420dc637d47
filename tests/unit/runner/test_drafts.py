"""Drafts from the text itself are made as long as they pay."""

from __future__ import annotations

from pathlib import Path

from corral.runner.drafts import DraftTallies, DraftTally
from corral.runner.flags import engine_flags, server_arguments
from corral.runner.spec import NGRAM, LaunchOptions, RunnerSpec

SPEC = RunnerSpec(model_path=Path("/models/a"), speculation=NGRAM, draft_num_predict=8)


def noted(drafted: int, accepted: int, times: int = 1) -> DraftTally:
    tally = DraftTally()
    for _ in range(times):
        tally.note({"draft_n": drafted, "draft_n_accepted": accepted, "predicted_n": 9})
    return tally


def test_few_drafts_are_not_judged() -> None:
    assert noted(80, 0).pays


def test_drafts_that_are_mostly_wrong_do_not_pay() -> None:
    assert not noted(80, 8, times=6).pays
    assert noted(80, 60, times=6).pays


def test_answers_without_drafts_say_nothing() -> None:
    tally = DraftTally()
    tally.note({"predicted_n": 500})
    assert tally == DraftTally()


def test_what_was_long_ago_counts_for_less() -> None:
    tally = noted(1000, 1000, times=4)
    for _ in range(9):
        tally.note({"draft_n": 1000, "draft_n_accepted": 100})
    assert not tally.pays


def test_a_model_whose_drafts_do_not_pay_is_launched_without() -> None:
    tallies = DraftTallies()
    assert tallies.apply(SPEC) == SPEC
    tallies.of(SPEC).note({"draft_n": 1000, "draft_n_accepted": 100})
    plain = tallies.apply(SPEC)
    assert (plain.speculation, plain.draft_num_predict) == ("", 0)
    other = RunnerSpec(model_path=Path("/models/b"), speculation=NGRAM, draft_num_predict=8)
    assert tallies.apply(other) == other


def test_a_draft_model_is_not_judged() -> None:
    spec = RunnerSpec(model_path=Path("/models/a"), speculation="draft-simple", draft_num_predict=4)
    tallies = DraftTallies()
    tallies.of(spec).note({"draft_n": 1000, "draft_n_accepted": 1})
    assert tallies.apply(spec) == spec


def test_tallies_are_bounded() -> None:
    tallies = DraftTallies()
    tallies.of(SPEC).note({"draft_n": 1000, "draft_n_accepted": 1})
    for number in range(200):
        tallies.of(RunnerSpec(model_path=Path(f"/models/{number}")))
    assert tallies.of(SPEC) == DraftTally()


def test_the_engine_is_told_both_lengths() -> None:
    flags = engine_flags(SPEC, LaunchOptions(dir=Path("/run")), Path("/run/s.sock"))
    words = server_arguments(flags)
    assert words[words.index("--spec-type") + 1] == NGRAM
    assert words[words.index("--spec-ngram-simple-size-n") + 1] == "8"
    assert words[words.index("--spec-ngram-simple-size-m") + 1] == "8"
    assert "--spec-draft-n-max" not in words
