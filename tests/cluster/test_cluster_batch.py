"""A batch on a cluster of three nodes: it spreads over all, and has each result once whoever is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.cluster.conftest import ClusterServer, cluster_server, until_gone
from tests.fakes.processes import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CHAT: Any = "/v1/chat/completions"
COUNT = 500
NODES = {"n1", "n2", "n3"}


def requests() -> bytes:
    """Lines that take a moment each, so that the batch is worth three nodes."""
    rows = []
    for number in range(COUNT):
        question = {"role": "user", "content": f"Say something about the number {number}."}
        body = {"model": "smollm2", "messages": [question], "temperature": 0, "max_tokens": 16}
        rows.append({"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": body})
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


class Batch:
    """The one batch of a home, seen through whichever server is there."""

    def __init__(self, cluster: ClusterServer) -> None:
        self.cluster = cluster
        url = f"{cluster.server.url}/v1"
        self._client = openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=60)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def begin(self) -> None:
        source = self._client.files.create(file=("in.jsonl", requests()), purpose="batch")
        self._client.batches.create(input_file_id=source.id, endpoint=CHAT, completion_window="24h")

    def now(self) -> Any:
        found = self._client.batches.list().data
        assert len(found) == 1
        return found[0]

    def done(self) -> int:
        """How many lines have their answers; none has failed."""
        counts = self.now().request_counts
        assert counts.failed == 0
        return int(counts.completed)

    def until_done(self, count: int) -> None:
        """Until so many lines have their answers."""

        until(lambda: self.done() >= count, 240, f"{count} lines are answered")
        assert count == COUNT or self.now().status == "in_progress", "too late to kill anybody"

    def until_on(self, count: int) -> None:
        """Until so many nodes have answered lines since now."""
        seen: set[str] = set()

        def on_all() -> bool:
            rows = self.cluster.server.request("GET", "/api/ps?verbose=1")["models"]
            seen.update(row["node"] for row in rows if row["active"])
            return len(seen) >= count

        until(on_all, 60, f"lines on {count} nodes")

    def results(self) -> list[dict[str, Any]]:
        until(lambda: self.now().status == "completed", 20, "the batch has ended")
        batch = self.now()
        assert batch.error_file_id is None
        return [json.loads(line) for line in self._client.files.content(batch.output_file_id).text.splitlines()]


def left_of(home: Path) -> set[int]:
    """All processes that were started for a server with this home, wherever they hang now."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            is_ours = f"CORRAL_HOME={home}\0".encode() in path.read_bytes()
        except OSError:
            continue
        if is_ours:
            found.add(int(path.parent.name))
    return found


def test_a_batch_spreads_over_all_nodes_and_has_each_result_once_whoever_is_killed(
    tmp_path: Path, small_store: Path
) -> None:
    """A node's agent while lines run on it, then the server; another server goes on on a cluster of its own."""
    home = tmp_path / "home"
    with cluster_server(tmp_path, small_store, 3) as cluster, Batch(cluster) as batch:
        batch.begin()
        batch.until_on(3)
        print(f"\nlines answered when all three nodes answer: {batch.done()}", end="")
        killed = cluster.processes(cluster.node_of("smollm2"))
        assert killed.runners
        os.kill(killed.agent, signal.SIGKILL)
        until_gone({killed.agent, *killed.runners}, 5)
        batch.until_done(COUNT // 4)
        cluster.until_nodes(*NODES)
        print(f", when the killed agent's node is there again: {batch.done()}", end="")
        everything = cluster.everything()
        assert left_of(home) >= {cluster.server.pid, *(cluster.processes(node).agent for node in NODES)}
        batch.until_done(COUNT // 3)
        os.kill(cluster.server.pid, signal.SIGKILL)
        cluster.server.process.wait(10)
        until_gone(everything)
        until(lambda: not left_of(home), 10, "nothing left of the killed server")
    with cluster_server(tmp_path, small_store, 3) as cluster, Batch(cluster) as batch:
        print(f", when the next server has three nodes: {batch.done()}")
        batch.until_on(2)
        batch.until_done(COUNT)
        answered = batch.results()
    assert not left_of(home)
    assert [each["custom_id"] for each in answered] == [f"line-{number}" for number in range(COUNT)]
    assert {each["response"]["status_code"] for each in answered} == {200}
    assert len({each["response"]["body"]["id"] for each in answered}) == COUNT
