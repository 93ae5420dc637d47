"""Whether a model is loaded: asked while the engine may not listen yet."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.runner import FakeEngine, FakeLauncher

from corral.errors import CorralError
from corral.runner.client import RunnerClient
from corral.runner.endpoint import UnixSocket
from corral.runner.spec import RunnerSpec


async def unwanted() -> CorralError:
    pytest.fail("nobody has died: explaining a death takes seconds")


async def test_an_engine_that_does_not_listen_yet_is_not_ready_and_not_dead(tmp_path: Path) -> None:
    client = RunnerClient(UnixSocket(tmp_path / "s.sock"), unwanted)
    assert not await client.health(timeout_s=1.0)
    await client.close()


async def test_a_closed_client_says_no_and_opens_nothing(tmp_path: Path) -> None:
    client = RunnerClient(UnixSocket(tmp_path / "s.sock"), unwanted)
    await client.close()
    assert not await client.health(timeout_s=1.0)
    assert client.connections._session is None


async def test_an_engine_that_answers_is_ready_unless_it_says_otherwise() -> None:
    engine = FakeEngine()
    runner = FakeLauncher(engine).create(RunnerSpec(Path("/m")))
    await runner.start()
    assert await runner.client.health(timeout_s=1.0)
    await runner.stop()
