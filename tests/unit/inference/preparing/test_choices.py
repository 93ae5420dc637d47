"""Options of one run: precedence, limits, tables. Vectors: spec native-api 11.3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from corral.config import Settings
from corral.core import GenerationParameters
from corral.errors import InvalidRequest
from corral.inference.preparing.choices import Choices, choose
from corral.inference.running.sampling import chat_fields, completion_fields, sampling_fields
from corral.sched.memory import DeviceFigures, HostFigures
from corral.sched.plan import default_window

SETTINGS = Settings()
HOST = HostFigures(0, 0, (DeviceFigures(24 * 2**30, 24 * 2**30),))  # an automatic window of 32768


def made(
    model: dict[str, Any] | None = None, asked: dict[str, Any] | None = None, settings: Settings = SETTINGS
) -> Choices:
    return choose(settings, model or {}, asked or {}, HOST)


@pytest.mark.parametrize(
    ("env", "model", "request_", "window"),
    [(8192, 16384, 4096, 4096), (8192, 16384, 0, 16384), (8192, 0, 0, 8192), (0, 0, 0, 32768)],
)
def test_num_ctx_of_the_request_beats_model_beats_environment_beats_tier(
    env: int, model: int, request_: int, window: int
) -> None:
    choices = made(
        {"num_ctx": model} if model else {},
        {"num_ctx": request_} if request_ else {},
        replace(SETTINGS, context_length=env),
    )
    assert choices.requested_window == window
    assert ("num_ctx" in choices.explicit) is bool(model or request_)


@pytest.mark.parametrize(
    ("asked", "window", "limit"), [(-1, 2048, 20480), (100, 2048, 100), (30000, 2048, 20480), (0, 2048, 0), (-2, 8, 80)]
)
def test_num_predict_is_bounded_by_ten_windows(asked: int, window: int, limit: int) -> None:
    assert made(asked={"num_predict": asked}).num_predict(window) == limit


def test_the_guides_table_is_one_setting_away() -> None:
    guide = made(settings=replace(SETTINGS, defaults="guide"))
    values = [guide.values[name] for name in ("num_ctx", "num_predict", "repeat_penalty")]
    assert values == [2048, 128, 1.1]
    assert made(settings=replace(SETTINGS, defaults="guide", context_length=8192)).values["num_ctx"] == 8192
    today = made()
    assert [today.values[name] for name in ("num_predict", "repeat_penalty", "top_k")] == [-1, 1.0, 40]


@pytest.mark.parametrize(("gib", "window"), [(0, 4096), (22, 4096), (23, 32768), (46, 32768), (47, 262144)])
def test_the_default_window_follows_the_memory_of_all_devices(gib: int, window: int) -> None:
    half = DeviceFigures(gib * 2**29, gib * 2**29)
    host = HostFigures(0, 0, (half, half) if gib else ())
    assert default_window(SETTINGS, host) == choose(SETTINGS, {}, {}, host).requested_window == window


def test_a_request_with_a_wrong_type_is_refused_a_model_with_one_is_only_noted() -> None:
    with pytest.raises(InvalidRequest, match='option "top_k" must be of type integer'):
        made(asked={"top_k": "x"})
    choices = made({"top_k": "x", "mirostat": 1, "top_p": 0.5})
    assert choices.values["top_p"] == 0.5
    assert choices.values["top_k"] == 40
    assert [notice.code for notice in choices.notices] == ["option_ignored"]


def test_null_means_not_given() -> None:
    assert made({"temperature": 0.3}, {"temperature": None}).values["temperature"] == 0.3


def test_overflow_follows_request_then_setting() -> None:
    strict = replace(SETTINGS, on_overflow="error")
    assert not made().refuses_overflow
    assert made(settings=strict).refuses_overflow
    assert not made(asked={"on_overflow": "truncate"}, settings=strict).refuses_overflow


def test_engine_fields_carry_every_option_under_the_engines_name() -> None:
    choices = made(asked={"seed": 7, "repeat_last_n": -1, "stop": ["a"], "num_predict": 5})
    fields = sampling_fields(choices, GenerationParameters(logit_bias={3: -1.5}), 4096)
    assert fields == {
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.0,
        "typical_p": 1.0,
        "temperature": 0.8,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "n_predict": 5,
        "n_keep": 4,
        "seed": 7,
        "repeat_last_n": 4096,
        "cache_prompt": True,
        "return_progress": False,
        "stop": ["a"],
        "logit_bias": [[3, -1.5]],
    }


@pytest.mark.parametrize(
    ("asked", "is_shortened"),
    [
        ({"temperature": 0, "repeat_penalty": 1.1}, True),
        ({"temperature": 0, "presence_penalty": 0.5, "repeat_last_n": 100}, True),
        ({"temperature": 0}, False),  # nothing is looked up
        ({"temperature": 0.8, "repeat_penalty": 1.1}, False),
        ({"temperature": 0, "repeat_penalty": 0.9}, False),  # makes some more probable
        ({"temperature": 0, "repeat_penalty": 1.1, "frequency_penalty": -0.5}, False),
        ({"temperature": 0, "repeat_penalty": 1.1, "typical_p": 0.5}, False),  # may drop the most probable one
        ({"temperature": 0, "repeat_penalty": 1.1, "repeat_last_n": -1}, False),
        ({"temperature": 0, "repeat_penalty": 1.1, "repeat_last_n": 0}, False),
    ],
)
def test_penalties_of_greedy_answers_look_at_no_more_than_can_win(asked: dict[str, Any], is_shortened: bool) -> None:
    fields = sampling_fields(made(asked=asked), GenerationParameters(), 4096)
    assert ("samplers" in fields) is is_shortened
    assert fields["top_k"] == (fields["repeat_last_n"] + 1 if is_shortened else 40)


@pytest.mark.parametrize(("seed", "sent"), [(-1, 2**32 - 1), (0, 0), (42, 42), (2**40, 2**40 % (2**32 - 1))])
def test_seeds_fit_the_engines_32_bits_and_only_negative_ones_mean_random(seed: int, sent: int) -> None:
    fields = sampling_fields(made(asked={"seed": seed}), GenerationParameters(), 8)
    assert fields["seed"] == sent


def test_logprobs_ask_for_at_least_one_alternative() -> None:
    parameters = GenerationParameters(logprobs=True)
    assert completion_fields(made(), parameters, 8)["n_probs"] == 1
    assert chat_fields(made(), replace(parameters, top_logprobs=3), 8)["top_logprobs"] == 3
    only_top = GenerationParameters(top_logprobs=3)
    assert "n_probs" not in completion_fields(made(), only_top, 8)
