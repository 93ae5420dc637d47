"""An agent and the link to it, without Ray: runners behind the relay, and who notices whose end how soon."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cluster.agents import RunningAgent, running_agent
from tests.fakes.processes import is_alive

from corral.cluster import link as links
from corral.cluster.driver import Started
from corral.cluster.link import AgentLink
from corral.errors import CorralError, NodeGone, RunnerDied

pytestmark = pytest.mark.e2e

NOTICED_S = 5.0


@pytest.fixture
def model(small_store: Path) -> Path:
    """The smallest blob that is a model."""
    blobs = (small_store / "blobs").iterdir()
    return min((path for path in blobs if path.stat().st_size > 100_000), key=lambda path: path.stat().st_size)


@pytest.fixture
async def agent(tmp_path: Path, small_store: Path) -> AsyncIterator[RunningAgent]:
    async with running_agent(tmp_path, small_store) as running:
        yield running


async def gone(pid: int, timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while is_alive(pid):
            await asyncio.sleep(0.05)


async def test_a_runner_serves_behind_the_relay_and_is_stopped(agent: RunningAgent, model: Path) -> None:
    assert agent.nodes.figures is not None
    assert agent.nodes.figures.total_bytes > 0
    assert f"sha256:{model.name.removeprefix('sha256-')}" in agent.nodes.blobs
    handle = agent.handle(model)
    await handle.start()
    assert handle.spec.model_path == model
    assert handle.info.slots == 1
    pid = handle.pid
    assert pid is not None
    assert await handle.client.tokenize("hello")
    body = {"prompt": "hello", "n_predict": 20, "temperature": 0}
    events = [event async for event in handle.client.completion(body)]
    assert events[-1]["stop"]
    assert len(events) > 10
    await handle.stop()
    assert handle.closed.is_set()
    assert not is_alive(pid)
    with pytest.raises(RunnerDied):
        await handle.client.tokenize("hello")


async def test_leaving_an_answer_frees_the_engine(agent: RunningAgent, model: Path) -> None:
    handle = agent.handle(model)
    await handle.start()
    answer = handle.client.completion({"prompt": "hello", "n_predict": 100_000, "ignore_eos": True})
    await anext(answer)
    await answer.aclose()
    async with asyncio.timeout(5):
        while any(slot["is_processing"] for slot in await handle.client.slots()):
            await asyncio.sleep(0.02)
    await handle.stop()


async def test_a_runner_that_is_killed_ends_its_calls_with_the_signal(agent: RunningAgent, model: Path) -> None:
    handle = agent.handle(model)
    await handle.start()
    answer = handle.client.completion({"prompt": "hello", "n_predict": 100_000, "ignore_eos": True})
    await anext(answer)
    os.kill(handle.pid or 0, signal.SIGKILL)
    with pytest.raises(RunnerDied, match="signal 9"):
        async for _ in answer:
            pass
    assert handle.exit_code == -signal.SIGKILL
    assert not agent.following.done()


async def test_a_load_that_fails_says_why(agent: RunningAgent, small_store: Path) -> None:
    absent = agent.handle(small_store / "blobs" / f"sha256-{'0' * 64}")
    with pytest.raises(CorralError, match="sha256:0000"):
        await absent.start()
    await absent.stop()


async def test_a_killed_agent_is_noticed_at_once(agent: RunningAgent, model: Path) -> None:
    handle = agent.handle(model)
    await handle.start()
    pid = handle.pid or 0
    answer = handle.client.completion({"prompt": "hello", "n_predict": 100_000, "ignore_eos": True})
    await anext(answer)
    began = time.monotonic()
    agent.process.kill()
    with pytest.raises(NodeGone, match="oak"):
        async for _ in answer:
            pass
    assert time.monotonic() - began < NOTICED_S
    await gone(pid, 5)
    await handle.stop()


async def test_a_frozen_agent_is_noticed_in_time_and_ends_when_it_thaws(agent: RunningAgent, model: Path) -> None:
    handle = agent.handle(model)
    await handle.start()
    pid = handle.pid or 0
    answer = handle.client.completion({"prompt": "hello", "n_predict": 100_000, "ignore_eos": True})
    await anext(answer)
    began = time.monotonic()
    agent.process.send_signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGSTOP)
    assert "no sign of life" in await asyncio.wait_for(agent.following, NOTICED_S)
    assert time.monotonic() - began < NOTICED_S
    with pytest.raises(NodeGone, match="no sign of life"):
        async for _ in answer:
            pass
    os.kill(pid, signal.SIGCONT)
    agent.process.send_signal(signal.SIGCONT)
    await asyncio.wait_for(agent.process.wait(), 10)
    await gone(pid, 5)


async def test_a_server_that_falls_silent_loses_its_runners(
    agent: RunningAgent, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = agent.handle(model)
    await handle.start()
    monkeypatch.setattr(agent.link, "send", lambda order: None)
    await asyncio.wait_for(agent.process.wait(), 10)
    assert not is_alive(handle.pid or 0)


async def test_an_agent_serves_one_server(agent: RunningAgent) -> None:
    second = AgentLink(Started("oak", agent.link.host, agent.link.port, agent.link._token), agent.nodes)
    assert await second.run()
    assert not second.has_joined
    guessed = AgentLink(Started("oak", agent.link.host, agent.link.port, "guessed"), agent.nodes)
    assert "does not let us in" in await guessed.run()
    assert not agent.following.done()


async def test_an_agent_of_another_version_is_not_used(
    tmp_path: Path, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "__version__", "0.0.1")
    async with running_agent(tmp_path, small_store) as other:
        assert "its Corral is" in await asyncio.wait_for(other.following, 20)
        assert not other.nodes.first.is_set()
