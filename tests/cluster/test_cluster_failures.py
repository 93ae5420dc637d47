"""What docs/cluster.md promises when a part of a cluster of three nodes dies or freezes; nothing is left running.

One server a test class would be cleaner and takes a quarter of a minute each: so one for the file, in its order, and
the last test kills it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.conftest import ClusterServer, cluster_server, until_gone
from tests.fakes.processes import is_alive, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NOTICED_S = 5.0
TINY = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "options": {"temperature": 0}}
STORY: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "Tell a very long story."}]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, small_store: Path) -> Iterator[ClusterServer]:
    """On three nodes."""
    with cluster_server(tmp_path_factory.mktemp("cluster"), small_store, 3) as running:
        yield running


class Streaming:
    """A long answer that is being read: by default sampled without a seed, so that nobody can go on with it."""

    def __init__(self, cluster: ClusterServer, **options: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        body = {**STORY, "stream": True, "options": options or {"temperature": 1.0, "num_predict": 2000}}
        data = json.dumps(body).encode()
        self._request = urllib.request.Request(f"{cluster.server.url}/api/chat", data)
        self.ended_at = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        until(lambda: len(self.lines) > 3, 60, "the answer streams")

    def _read(self) -> None:
        with urllib.request.urlopen(self._request, timeout=120) as response:
            for line in response:
                self.lines.append(json.loads(line))
        self.ended_at = time.monotonic()

    def __len__(self) -> int:
        return len(self.lines)

    def error(self, timeout_s: float) -> str:
        """The error at its end."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the answer goes on"
        return str(self.lines[-1].get("error", ""))

    def text(self) -> str:
        """What was said until now."""
        return "".join(line["message"]["content"] for line in self.lines if "message" in line)


def lost(cluster: ClusterServer, node: str, since: float) -> None:
    """The node is noticed to be gone in time."""
    until(lambda: node not in cluster.nodes(), NOTICED_S + 2, f"{node} lost")
    assert time.monotonic() - since < NOTICED_S + 1  # and a look at the list of nodes


def test_a_frozen_node_is_noticed_and_joins_anew_when_it_thaws(cluster: ClusterServer) -> None:
    streaming = Streaming(cluster)
    node = cluster.node_of("smollm2")
    processes = cluster.processes(node)
    for pid in processes.all:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        waiting: list[Any] = []
        thread = threading.Thread(target=lambda: waiting.append(cluster.server.post("/api/chat", TINY)))
        thread.start()
        lost(cluster, node, began)
        assert node in streaming.error(10)
        thread.join(60)
        assert waiting, "a request that had not begun is served elsewhere"
        assert waiting[0]["done"]
        assert cluster.server.post("/api/chat", {**STORY, "options": {"num_predict": 4}})["done"]
        assert cluster.node_of("smollm2") != node
    finally:
        for pid in processes.all:
            os.kill(pid, signal.SIGCONT)
    until_gone({processes.agent, *processes.runners})
    cluster.until_nodes("n1", "n2", "n3", timeout_s=60)


def test_a_killed_agent_ends_its_runners_and_streams_end_with_its_name(cluster: ClusterServer) -> None:
    streaming = Streaming(cluster)
    node = cluster.node_of("smollm2")
    processes = cluster.processes(node)
    os.kill(processes.agent, signal.SIGKILL)
    began = time.monotonic()
    assert node in streaming.error(10)
    lost(cluster, node, began)
    until_gone({processes.agent, *processes.runners}, 5)
    cluster.until_nodes("n1", "n2", "n3", timeout_s=60)


def test_a_greedy_answer_goes_on_on_another_node_word_for_word(cluster: ClusterServer) -> None:
    greedy = {"temperature": 0, "num_predict": 150}
    whole = cluster.server.post("/api/chat", {**STORY, "options": greedy})["message"]["content"]
    streaming = Streaming(cluster, **greedy)
    node = cluster.node_of("smollm2")
    os.kill(cluster.processes(node).agent, signal.SIGKILL)
    assert streaming.error(90) == ""
    assert streaming.lines[-1]["done"]
    assert streaming.text() == whole
    cluster.until_nodes("n1", "n2", "n3", timeout_s=60)


def test_a_killed_runner_costs_its_answer_alone(cluster: ClusterServer) -> None:
    streaming = Streaming(cluster)
    node = cluster.node_of("smollm2")
    pid = next(
        row["pid"]
        for row in cluster.server.request("GET", "/api/ps?verbose=1")["models"]
        if row["name"].startswith("smollm2")
    )
    os.kill(pid, signal.SIGKILL)
    assert "an error was encountered while running the model" in streaming.error(10)
    assert cluster.server.post("/api/chat", {**STORY, "options": {"num_predict": 4}})["done"]
    assert node in cluster.nodes()


def test_a_killed_raylet_takes_its_node_and_nothing_else(cluster: ClusterServer) -> None:
    cluster.server.post("/api/chat", TINY)
    node = next(name for name in ("n3", "n2") if name in cluster.nodes())
    processes = cluster.processes(node)
    began = time.monotonic()
    os.kill(processes.raylet, signal.SIGKILL)
    lost(cluster, node, began)
    until_gone({processes.agent, *processes.runners}, 10)
    assert cluster.server.post("/api/chat", TINY)["done"]
    assert node not in cluster.nodes()


def test_virtual_nodes_end_with_their_ray_driver_and_come_back_with_another(cluster: ClusterServer) -> None:
    """What real nodes do then: test_cluster_of_others.py."""
    names = set(cluster.nodes())
    assert names
    children = cluster.everything()
    os.kill(cluster.driver, signal.SIGTERM)
    until(lambda: not cluster.nodes(), 30, "the virtual nodes gone with the driver")
    cluster.until_nodes("n1", "n2", "n3", timeout_s=90)
    assert cluster.server.post("/api/chat", TINY)["done"]
    assert not any(is_alive(pid) for pid in children - {cluster.server.pid})


def test_a_frozen_server_loses_its_runners_and_nothing_is_left_of_a_killed_one(cluster: ClusterServer) -> None:
    cluster.server.post("/api/chat", TINY)
    everything = cluster.everything()
    runners = cluster.processes(cluster.node_of("tiny")).runners
    os.kill(cluster.server.pid, signal.SIGSTOP)
    until_gone(set(runners), 15)
    os.kill(cluster.server.pid, signal.SIGKILL)
    cluster.server.process.wait(10)
    until_gone(everything)
    blobs = sorted(path.name for path in (cluster.server.models / "blobs").iterdir())
    assert blobs, "the store is as it was"
    assert not [name for name in blobs if not name.startswith("sha256-")]
