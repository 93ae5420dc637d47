"""A server on two virtual nodes: chats are answered there, and a dead agent, runner or server takes nothing with it.

One server for the whole file, in the order of the file: the last test kills it.
"""

from __future__ import annotations

import os
import signal
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.conftest import ClusterServer, cluster_server, until_gone
from tests.fakes.processes import is_alive, until

pytestmark = pytest.mark.e2e

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "options": {"temperature": 0}}
NOTICED_S = 5.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Iterator[ClusterServer]:
    """On two nodes."""
    with cluster_server(tmp_path_factory.mktemp("cluster"), small_store, 2) as running:
        yield running


def test_a_chat_is_answered_on_a_node_that_ps_names(cluster: ClusterServer) -> None:
    answer = cluster.server.post("/api/chat", CHAT)
    assert answer["done_reason"] in {"stop", "length"}
    node = cluster.node_of("tiny")
    rows = cluster.nodes()
    assert rows[node]["models"] == ["tiny:latest"]
    assert rows[node]["memory_bytes"] > 0
    verbose = cluster.server.request("GET", "/api/ps?verbose=1")["models"][0]
    assert verbose["pid"] in cluster.processes(node).runners
    blobs = cluster.server.home / "cluster" / node / "cluster" / "models" / "blobs"
    assert {path.name for path in blobs.iterdir()} <= {
        path.name for path in (cluster.server.models / "blobs").iterdir()
    }


def test_a_runner_that_is_killed_is_loaded_again(cluster: ClusterServer) -> None:
    cluster.server.post("/api/chat", CHAT)
    (runner,) = cluster.processes(cluster.node_of("tiny")).runners
    os.kill(runner, signal.SIGKILL)
    assert cluster.server.post("/api/chat", CHAT)["done"]
    assert not is_alive(runner)


def test_a_killed_agent_is_noticed_in_time_and_its_node_joins_again(cluster: ClusterServer) -> None:
    cluster.server.post("/api/chat", CHAT)
    node = cluster.node_of("tiny")
    processes = cluster.processes(node)
    os.kill(processes.agent, signal.SIGKILL)
    began = time.monotonic()
    until(lambda: node not in cluster.nodes(), NOTICED_S, f"{node} lost")
    assert cluster.server.post("/api/chat", CHAT)["done"]
    assert time.monotonic() - began < 30
    until_gone({processes.agent, *processes.runners}, 5)
    cluster.until_nodes("n1", "n2", timeout_s=30)
    assert cluster.processes(node).agent != processes.agent


def test_a_drained_node_takes_no_load(cluster: ClusterServer) -> None:
    cluster.server.post("/api/chat", CHAT)
    node = cluster.node_of("tiny")
    cluster.server.request("POST", "/api/cluster/drain", {"node": node})
    assert cluster.nodes()[node]["state"] == "draining"
    until(lambda: not cluster.nodes()[node]["models"], 20, "the drained node is empty")
    cluster.server.post("/api/chat", CHAT)
    assert cluster.node_of("tiny") != node
    with pytest.raises(urllib.error.HTTPError) as error:
        cluster.server.request("POST", "/api/cluster/drain", {"node": "nobody"})
    with error.value as refused:
        assert refused.code == 404


def test_a_killed_server_leaves_nothing_running(cluster: ClusterServer) -> None:
    cluster.server.post("/api/chat", CHAT)
    everything = cluster.everything()
    assert cluster.processes(cluster.node_of("tiny")).runners <= everything
    os.kill(cluster.server.pid, signal.SIGKILL)
    cluster.server.process.wait(10)
    until_gone(everything)
