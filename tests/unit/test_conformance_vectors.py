"""Vectors of Ollama's own tests (spec native-api 11.2) that the tests of config and durations do not have already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corral.address import Address, parse_address
from corral.config import Settings
from corral.durations import FOREVER, parse_keep_alive


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No corral.toml of the developer's may be found."""
    monkeypatch.chdir(tmp_path)


def read(variable: str, text: str) -> Settings:
    return Settings.from_env({"HOME": "/home/u", variable: text})


@pytest.mark.parametrize(
    ("value", "seconds"), [(42, 42), (42.5, 42.5), ("42m", 2520), (-1, FOREVER), (-3.14, FOREVER), ("-1m", FOREVER)]
)
def test_keep_alive_of_a_request(value: Any, seconds: float) -> None:
    assert parse_keep_alive(value) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("1h2m3s", 3723),
        ("0", 0),
        ("-0", 0),
        ("-1", FOREVER),
        ("-1m", FOREVER),
        ("", 300),
        (" ", 300),
        ("???", 300),
        ("1d", 300),
        ("1w", 300),
    ],
)
def test_keep_alive_of_the_environment(text: str, seconds: float) -> None:
    assert read("OLLAMA_KEEP_ALIVE", text).keep_alive_s == seconds


@pytest.mark.parametrize("text", ["0", "-0", "-1"])
def test_load_timeouts_that_mean_never(text: str) -> None:
    assert read("OLLAMA_LOAD_TIMEOUT", text).load_timeout_s == FOREVER


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", Address()),
        ("1.2.3.4", Address(host="1.2.3.4")),
        (":1234", Address(host="", port=1234)),
        ("example.com", Address(host="example.com")),
        ("::1", Address(host="::1")),
        ("[::]", Address(host="::")),
        (":66000", Address(host="")),
        (":-1", Address(host="")),
        (":0", Address(host="", port=0)),
        ("http://1.2.3.4", Address(host="1.2.3.4", port=80)),
        ("https://1.2.3.4", Address("https", "1.2.3.4", 443)),
    ],
)
def test_hosts(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("true", True), ("random", True), ("0", False), ("false", False), ("", False)]
)
def test_booleans_of_the_environment(text: str, value: bool) -> None:
    assert read("OLLAMA_NOPRUNE", text).no_prune is value


@pytest.mark.parametrize("text", ["-1", "0x10", "string"])
def test_unsigned_numbers_that_mean_the_default(text: str) -> None:
    assert read("OLLAMA_MAX_QUEUE", text).max_queue == 512
