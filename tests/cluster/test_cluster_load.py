"""Three nodes, two models, 24 clients: every answer is its own client's, and as many tokens come as without Ray."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.conftest import ClusterServer, cluster_server
from tests.e2e.conftest import ServerProcess, linked_store, start_server

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CLIENTS = 24
ROUNDS = 4
TOKENS = 48
LEAST_SHARE = 0.95
MODELS = ("smollm2", "tiny")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Iterator[ClusterServer]:
    """With one runner of each model, as without a cluster."""
    pinned = "smollm2=n2,tiny=n3"
    with cluster_server(tmp_path_factory.mktemp("cluster"), small_store, 3, CLUSTER_PIN=pinned) as running:
        yield running


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Iterator[ServerProcess]:
    """The same server with the same runners, without a cluster."""
    folder = tmp_path_factory.mktemp("alone")
    running = start_server(
        folder, models=linked_store(small_store, folder / "models"), env={"CORRAL_THREADS": "1", "CORRAL_TUNE": "off"}
    )
    try:
        yield running
    finally:
        running.stop()


def everybody(ask: Any) -> list[Any]:
    """What each client gets, all at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(ask, range(CLIENTS)))


def test_every_client_gets_its_own_answer(cluster: ClusterServer) -> None:
    def ask(number: int) -> Any:
        schema = {"type": "object", "properties": {"client": {"const": number}}, "required": ["client"]}
        body = {
            "model": MODELS[number % 2],
            "messages": [{"role": "user", "content": f"I am client {number}. Who am I?"}],
            "format": schema,
            "options": {"num_predict": 60},
        }
        return json.loads(cluster.server.post("/api/chat", body)["message"]["content"])

    assert everybody(ask) == [{"client": number} for number in range(CLIENTS)]
    nodes = {row["node"] for row in cluster.server.request("GET", "/api/ps")["models"]}
    assert nodes == {"n2", "n3"}


def rush(server: ServerProcess) -> tuple[int, float]:
    """(tokens, seconds) of all clients together; the same prompts each time."""

    def ask(number: int) -> int:
        body = {
            "model": MODELS[number % 2],
            "prompt": f"{number}: Once upon a time",
            "options": {"num_predict": TOKENS},
        }
        return int(server.post("/api/generate", body)["eval_count"])

    began = time.monotonic()
    tokens: int = sum(everybody(ask))
    return tokens, time.monotonic() - began


def test_the_sum_of_tokens_is_what_the_same_runners_give_without_ray(
    cluster: ClusterServer, alone: ServerProcess
) -> None:
    for server in (cluster.server, alone):
        rush(server)  # loads
    totals = {way: [0, 0.0] for way in ("without", "with")}
    servers = {"without": alone, "with": cluster.server}
    for turn in range(2 * ROUNDS):
        for way in ("without", "with") if turn % 2 else ("with", "without"):
            tokens, took_s = rush(servers[way])
            totals[way][0] += tokens
            totals[way][1] += took_s
    speeds = {way: tokens / took_s for way, (tokens, took_s) in totals.items()}
    share = speeds["with"] / speeds["without"]
    print(f"\ntokens/s on the cluster: {speeds['with']:.0f}, without: {speeds['without']:.0f}, {share:.3f}")
    assert share >= LEAST_SHARE
