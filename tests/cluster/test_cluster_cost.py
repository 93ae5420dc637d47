"""What the way to another machine costs: the same runner, asked in turns through the relay and on its own socket."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cluster.agents import running_agent

from corral.runner.client import RunnerClient
from corral.runner.endpoint import UnixSocket

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TOKENS = 300
TURNS = 15
MOST_TOKEN_S = 0.3e-3
MOST_REQUEST_S = 5e-3


async def took(client: RunnerClient, tokens: int) -> tuple[float, float]:
    """(seconds to the first token, seconds a token after it)."""
    body = {"prompt": "hello", "n_predict": tokens, "ignore_eos": True, "cache_prompt": True, "temperature": 0}
    began = time.perf_counter()
    first, count = 0.0, 0
    async for event in client.completion(body):
        if event.get("content"):
            first = first or time.perf_counter()
            count += 1
    return first - began, (time.perf_counter() - first) / max(1, count - 1)


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


async def test_a_token_and_a_request_cost_little_more_than_without_a_cluster(tmp_path: Path, small_store: Path) -> None:
    model = max((small_store / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    async with running_agent(tmp_path, small_store) as agent:
        handle = agent.handle(model)
        await handle.start()
        direct = RunnerClient(UnixSocket(agent.socket()))
        times: dict[str, list[tuple[float, float]]] = {"relay": [], "direct": []}
        for _ in range(TURNS):
            times["direct"].append(await took(direct, TOKENS // TURNS))
            times["relay"].append(await took(handle.client, TOKENS // TURNS))
        await direct.close()
        await handle.stop()
    firsts = {way: middle([first for first, _ in each]) for way, each in times.items()}
    tokens = {way: middle([token for _, token in each]) for way, each in times.items()}
    print(f"\na request: {1e3 * (firsts['relay'] - firsts['direct']):+.2f} ms of {1e3 * firsts['direct']:.1f}")
    print(f"a token: {1e3 * (tokens['relay'] - tokens['direct']):+.3f} ms of {1e3 * tokens['direct']:.2f}")
    assert firsts["relay"] - firsts["direct"] <= MOST_REQUEST_S
    assert tokens["relay"] - tokens["direct"] <= MOST_TOKEN_S
