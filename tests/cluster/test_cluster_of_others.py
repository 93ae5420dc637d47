"""A Ray cluster that is there already: the server joins it, its Ray driver may die, and a new server cleans up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.conftest import cluster_server, until_gone, words
from tests.cluster.raycluster import ray_cluster
from tests.fakes.processes import children, is_alive, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

TINY = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "options": {"temperature": 0}}


@pytest.fixture(scope="module")
def others() -> Iterator[tuple[str, int]]:
    """The cluster's address, and the process that holds it."""
    with ray_cluster() as found:
        yield found


def agents(process: int) -> set[int]:
    """The agents on a cluster's nodes."""
    found: set[int] = set()
    for raylet in children(process):
        found |= {pid for pid in children(raylet) if "ray::Agent" in words(pid)}
    return {pid for pid in found if is_alive(pid)}


def test_agents_outlive_their_ray_driver_and_not_their_server(
    others: tuple[str, int], tmp_path: Path, small_store: Path
) -> None:
    address, process = others
    with cluster_server(tmp_path, small_store, 2, address) as cluster:
        first = agents(process)
        assert len(first) == 2
        assert cluster.server.post("/api/chat", TINY)["done"]
        driver = cluster.driver
        os.kill(driver, signal.SIGKILL)
        until(lambda: not is_alive(driver), 10, "the driver is dead")
        assert set(cluster.nodes()) == {"n1", "n2"}
        assert cluster.server.post("/api/chat", TINY)["done"]
        until(lambda: cluster.driver not in {0, driver}, 30, "another driver is started")
        node = cluster.node_of("tiny")
        killed = next(pid for pid in first if any("runner.child" in words(each) for each in children(pid)))
        os.kill(killed, signal.SIGKILL)
        until(lambda: node not in cluster.nodes(), 10, "the killed agent's node is lost")
        cluster.until_nodes("n1", "n2", timeout_s=90)  # so the new driver works
        assert len(agents(process) & first) == 1  # and has left the other agent at work
        assert cluster.server.post("/api/chat", TINY)["done"]
        left = agents(process)
        os.kill(cluster.server.pid, signal.SIGKILL)
        until_gone(left, 15)
    with cluster_server(tmp_path, small_store, 2, address) as cluster:
        assert cluster.server.post("/api/chat", TINY)["done"]
        left = agents(process)
    until_gone(left, 15)
