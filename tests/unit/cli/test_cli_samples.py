"""Figures of `corral top`: rates between looks, means, and lines that hold whole parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral.cli.samples import Look, Samples, total
from corral.cli.top import figures, model_lines, packed, request_row

METRICS = """\
# TYPE corral_tokens counter
corral_tokens_total{model="a",kind="eval"} 30.0
corral_tokens_total{model="b",kind="eval"} 12.0
corral_tokens_total{model="b",kind="prompt"} 5.0
corral_tokens_created{model="b",kind="eval"} 9e9
corral_tokens_total_other 7.0
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_counter_is_summed_over_its_labels_and_over_nothing_else() -> None:
    assert total(METRICS, "corral_tokens", 'kind="eval"') == 42
    assert total(METRICS, "corral_tokens") == 47
    assert total("", "corral_tokens") == 0


def look(at_s: float, made: int, **request: Any) -> Look:
    running = {"state": "running", "eval_tokens": made, **request}
    return Look(at_s, requests=[running], metrics=METRICS)


def test_rates_count_requests_under_way_and_never_go_below_nothing() -> None:
    samples = Samples()
    for at_s, made in ((10, 0), (12, 40), (13, 60), (14, 0)):  # the last one failed and took its tokens with it
        samples.add(look(at_s, made))
    assert samples.series("made_rate") == [0, 20, 20, 0]
    assert samples.mean("made_rate") == pytest.approx(40 / 3)
    assert Samples().mean("made_rate") == 0


def test_what_the_cache_had_was_not_read() -> None:
    samples = Samples()
    samples.add(look(10, 0, processed_tokens=600, cached_tokens=600))
    samples.add(look(12, 0, processed_tokens=800, cached_tokens=600))
    assert samples.series("read_rate") == [0, 100]


def test_a_prompt_says_how_far_it_is_read_until_it_is() -> None:
    running = {"model": "m", "state": "running", "running_s": 1, "prompt_tokens": 900}
    assert request_row({**running, "processed_tokens": 300}, wide=True)[3] == "300/900"
    assert request_row({**running, "processed_tokens": 900}, wide=True)[3] == "900"


def test_minutes_are_kept_and_no_more() -> None:
    samples = Samples()
    for second in range(1000):
        samples.add(look(second, second))
    assert len(samples.series("made")) == 300


def test_lines_hold_whole_parts() -> None:
    assert packed(["one two", "three", "four"], 14) == "one two  three\nfour"
    assert packed(["wider than all of it", "x"], 5) == "wider than all of it\nx"
    assert packed([], 5) == ""


def test_an_idle_server_is_told_in_few_words() -> None:
    assert figures(Look(0.0), Samples(), wide=False) == ["0.0 tok/s", "read 0/s", "slots 0/0", "waiting 0"]
    assert model_lines(Look(0.0), NOW, 40) == ["No model is loaded."]


def test_a_model_is_one_line_and_says_how_long_it_stays() -> None:
    stays = (NOW + timedelta(minutes=4, seconds=1)).isoformat()
    model = {"name": "m", "slots": 2, "active": 0, "size": 5_000_000, "expires_at": stays, "context_length": 4096}
    assert model_lines(Look(0.0, [model]), NOW, 80) == ["m □□  5 MB  4 minutes from now  window 4096"]
    assert model_lines(Look(0.0, [model]), NOW, 14) == ["m □□  5 MB"]


def test_requests_that_wait_say_their_place() -> None:
    waiting = {"model": "m", "route": "/api/chat", "state": "queued", "position": 2, "wait_s": 3.2, "waited_s": 9}
    assert request_row(waiting, wide=True) == ("m", "/api/chat", "queued, place 2, ~3s", "", "", "9 s")
    assert request_row(waiting, wide=False) == ("m", "place 2, ~3s", "")
