"""Which launch settings are tried, one thing at a time from the best so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from corral.runner.candidates import Open, Speed, Tuning, candidates, fastest

DEFAULT = Tuning(4)
ALL = Open((2, 1), flash_attention=True, repacking=True, huge_pages=True, step=512)


def tried(speed: Callable[[Tuning], Speed], varied: Open = ALL) -> tuple[list[Tuning], Tuning]:
    """(what was tried, in order; the best of it)."""
    order: list[Tuning] = []
    speeds: dict[Tuning, Speed] = {}
    for candidate in candidates(DEFAULT, varied, speeds):
        order.append(candidate)
        speeds[candidate] = speed(candidate)
    return order, fastest(speeds)


def test_where_the_default_is_the_best_each_thing_is_varied_from_it() -> None:
    order, best = tried(lambda tuning: Speed(10.0 if tuning == DEFAULT else 5.0, 10, 10))
    assert best == DEFAULT
    assert order == [
        DEFAULT,
        Tuning(2),
        Tuning(1),
        replace(DEFAULT, flash_attention=False),
        replace(DEFAULT, repacks=False),
        replace(DEFAULT, huge_pages=False),
        replace(DEFAULT, step=256),
        DEFAULT,
    ]


def test_what_is_better_stays_while_the_next_thing_is_varied() -> None:
    def speed(tuning: Tuning) -> Speed:
        gain = 3 * (tuning.n_threads == 2) + 2 * (tuning.flash_attention is False) - (not tuning.repacks)
        rate = 10.0 + gain + 0.5 * (not tuning.huge_pages) + 0.25 * bool(tuning.step)
        return Speed(rate, rate, rate)

    order, best = tried(speed)
    assert best == Tuning(2, flash_attention=False, huge_pages=False, step=256)
    assert order[-1] == DEFAULT
    assert str(best) == "2 threads, flash attention off, no huge pages, steps of 256"


def test_threads_for_prompts_are_tried_apart_where_prompts_like_others_than_answers() -> None:
    def speed(tuning: Tuning) -> Speed:
        answering, reading = 10.0 * (3 - tuning.n_threads / 2), 10.0 * (tuning.prompt_threads or tuning.n_threads)
        return Speed(1 / (1 / answering + 1 / reading), answering, reading)

    order, best = tried(speed, Open((2, 1)))
    assert best == Tuning(1, prompt_threads=4)
    assert str(best) == "1 threads, 4 for prompts"
    assert order == [DEFAULT, Tuning(2), Tuning(1), best, DEFAULT]


@pytest.mark.parametrize("varied", [Open(), Open(step=96)])
def test_where_nothing_is_open_the_default_is_measured_once(varied: Open) -> None:
    assert tried(lambda _: Speed(1, 1, 1), varied)[0] == [DEFAULT]


def test_where_the_default_fails_nothing_else_is_tried() -> None:
    assert tried(lambda _: Speed())[0] == [DEFAULT]
