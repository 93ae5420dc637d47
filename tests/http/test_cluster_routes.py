"""GET /api/cluster and POST /api/cluster/drain: what a cluster's nodes have, and how one is emptied."""

from __future__ import annotations

import asyncio

from tests.fakes.server import RunningServer

from corral.sched.memory import DeviceFigures, HostFigures

FIGURES = HostFigures(8 * 2**30, 5 * 2**30, (DeviceFigures(2**30, 2**29),), 6)


async def test_without_a_cluster_there_are_no_nodes(server: RunningServer) -> None:
    assert await server.call("GET", "/api/cluster") == (200, {"nodes": []})


async def test_nodes_are_listed_and_drained(server: RunningServer) -> None:
    nodes = server.deps.scheduler.nodes
    nodes.joined("oak", FIGURES, ("sha256:1",))
    nodes.joined("ash", FIGURES)
    await asyncio.sleep(0.05)
    _, listed = await server.call("GET", "/api/cluster")
    assert [row["name"] for row in listed["nodes"]] == ["ash", "oak"]
    assert listed["nodes"][1] == {
        "name": "oak",
        "state": "up",
        "cores": 6,
        "memory_bytes": 8 * 2**30,
        "available_bytes": 5 * 2**30,
        "vram_bytes": 2**30,
        "vram_free_bytes": 2**29,
        "models": [],
        "blobs": 1,
    }
    assert await server.call("POST", "/api/cluster/drain", {"node": "oak"}) == (200, {"status": "success"})
    await asyncio.sleep(0.05)
    _, listed = await server.call("GET", "/api/cluster")
    assert [row["state"] for row in listed["nodes"]] == ["up", "draining"]


async def test_an_unknown_node_is_not_found(server: RunningServer) -> None:
    status, answer = await server.call("POST", "/api/cluster/drain", {"node": "elm"})
    assert status == 404
    assert answer["error"] == "node 'elm' not found: GET /api/cluster lists those that are there"
