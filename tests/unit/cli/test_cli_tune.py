"""`corral tune`: progress where a person looks, the choice where a script does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes.native_api import FakeApi, Reply


def test_the_choice_is_printed_and_trials_are_progress(cli: Callable[..., Any], api: FakeApi) -> None:
    words = ["measuring: 2 threads", "measuring: 1 threads", "chosen: 1 threads, 61.2 tokens/s", "success"]
    api.routes["POST /api/tune"] = Reply(stream=[{"status": word} for word in words])
    outcome = cli("tune", "m")
    assert outcome.status == 0
    assert outcome.out == "m: 1 threads, 61.2 tokens/s; used from the next load on\n"
    assert outcome.err.splitlines() == words
    assert api.bodies("POST /api/tune") == [{"model": "m", "stream": True}]


def test_a_refusal_is_an_error(cli: Callable[..., Any], api: FakeApi) -> None:
    api.routes["POST /api/tune"] = Reply({"error": "model 'm' not found"}, 404)
    outcome = cli("tune", "m")
    assert outcome.status == 1
    assert "not found" in outcome.err
    assert outcome.out == ""
