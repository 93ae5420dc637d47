"""What the attacks are run against: a registry that misbehaves, a clock that does not wait."""

from __future__ import annotations

from tests.http.conftest import server
from tests.unit.registry.conftest import fake, naps

__all__ = ["fake", "naps", "server"]
