"""Durations as Go parses and prints them; keep_alive in all the forms that requests use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.durations import FOREVER, format_duration, parse_duration, parse_keep_alive
from corral.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("5s", 5),
        ("5m", 300),
        ("1h30m", 5400),
        ("-1.5h", -5400),
        ("+5.s", 5),
        (".5m", 30),
        ("100ms", 0.1),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("1μs", 1e-6),
        ("1ns", 1e-9),
        ("1h2m3.5s", 3723.5),
    ],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("abc", 'time: invalid duration "abc"'),
        (".", 'time: invalid duration "."'),
        (" 5m", 'time: invalid duration " 5m"'),
        ("٣s", r'time: invalid duration "\xd9\xa3s"'),
        ("5é", r'time: unknown unit "\xc3\xa9" in duration "5\xc3\xa9"'),
        ("5", 'time: missing unit in duration "5"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        ("1e3s", 'time: unknown unit "e" in duration "1e3s"'),
        ("5 m", 'time: unknown unit " m" in duration "5 m"'),
        ("99999999999h", 'time: invalid duration "99999999999h"'),
    ],
)
def test_other_texts_are_refused_in_gos_words(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_duration(text)
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (0, 0),
        (300, 300),
        (1.5, 1.5),
        ("5m", 300),
        ("0", 0),
        (-1, FOREVER),
        ("-1s", FOREVER),
        (-0.1, FOREVER),
        (10**320, FOREVER),
        ("2540400h", 9145440000.0),
    ],
)
def test_keep_alive_is_seconds_or_a_duration_and_negative_means_for_ever(value: Any, seconds: float | None) -> None:
    assert parse_keep_alive(value) == seconds


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
        ("5", 'time: missing unit in duration "5"'),
    ],
)
def test_other_keep_alives_are_refused_in_gos_words(value: Any, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_keep_alive(value)
    assert caught.value.why == why


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-9, "1ns"),
        (1.5e-6, "1.5µs"),
        (0.0456, "45.6ms"),
        (1, "1s"),
        (1.234567891, "1.234567891s"),
        (60, "1m0s"),
        (3600, "1h0m0s"),
        (3723.5, "1h2m3.5s"),
        (-1.5, "-1.5s"),
        (0.999999999, "999.999999ms"),
        (86_400 * 365, "8760h0m0s"),
    ],
)
def test_durations_are_printed_as_go_prints_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(-(10**15), 10**15))
def test_what_is_printed_reads_back(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)
