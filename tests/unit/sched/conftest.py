"""Fixtures of the scheduler's tests."""

from __future__ import annotations

import pytest
from tests.unit.sched.fake_launcher import FakeLauncher


@pytest.fixture
def launcher() -> FakeLauncher:
    return FakeLauncher()


@pytest.fixture
def slow() -> FakeLauncher:
    """A launcher whose runners get ready when the test says so."""
    return FakeLauncher(start_at_once=False)
