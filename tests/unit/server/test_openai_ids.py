"""Ids that clients of /v1 see."""

from __future__ import annotations

import re

import pytest

from corral.server.openai.encoding import ordered_id


def test_ids_sort_by_when_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1_796_000_000_000_000_000, 1_796_000_000_000_000_001, 1_796_000_001_000_000_000, 2**61])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    made = [ordered_id("batch_") for _ in range(4)]
    assert made == sorted(made)
    assert all(re.fullmatch(r"batch_[0-9a-z]{24}", each) for each in made)
