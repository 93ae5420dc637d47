"""Fixtures for constraints: the compiler's child, shared by all tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from corral.constraint.trial import Trial


@pytest.fixture(scope="session")
def trial() -> Iterator[Trial]:
    """A real one."""
    made = Trial()
    yield made
    made.close()
