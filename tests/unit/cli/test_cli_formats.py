"""Sizes, numbers and times. Vectors: spec of Ollama's format/ package and its tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from corral.cli.formats import format_g, human_bytes, human_duration, human_number, human_time, parse_time

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1024, "1.0 KB"),
        (1500, "1.5 KB"),
        (999_999, "999 KB"),
        (1_000_000, "1 MB"),
        (4_700_000_000, "4.7 GB"),
        (13_400_000_000, "13 GB"),
        (1_000_000_000_000, "1 TB"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (7_000_000_000, "7B"),
        (6_738_415_616, "6.7B"),
        (125_000_000, "125M"),
        (133_700_000, "133.70M"),
        (26_000, "26K"),
        (999, "999"),
    ],
)
def test_numbers(count: int, text: str) -> None:
    assert human_number(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1.9, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (1.5 * 3600, "2 hours"),
        (24 * 3600, "24 hours"),
        (47.4 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_moments() -> None:
    assert human_time(NOW - timedelta(days=2), NOW) == "2 days ago"
    assert human_time(NOW + timedelta(minutes=4, seconds=30), NOW) == "4 minutes from now"
    assert human_time(NOW + timedelta(days=365 * 30), NOW) == "Forever"
    assert human_time(None, NOW) == "Never"
    assert human_time(parse_time("0001-01-01T00:00:00Z"), NOW) == "Never"


def test_times_of_the_api_have_nanoseconds_and_offsets() -> None:
    moment = parse_time("2026-11-23T14:00:00.123456789+02:00")
    assert moment is not None
    assert moment.astimezone(UTC) == NOW.replace(microsecond=123456)
    assert parse_time("soon") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1000, "1000"),
        (131072, "131072"),
        (1e6, "1e+06"),
        (1048576, "1.048576e+06"),
        (8e9, "8e+09"),
        (0.1, "0.1"),
        (1e-5, "1e-05"),
        (-2.5, "-2.5"),
        (-0.0, "-0"),
        (1e-4, "0.0001"),
    ],
)
def test_numbers_as_go_prints_them(value: float, text: str) -> None:
    assert format_g(value) == text
