"""GET /api/cluster, POST /api/cluster/drain: ours; the machines that runners are on; none without a cluster."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from corral.api.bodies import convert
from corral.api.native_manage import DrainFields
from corral.errors import NodeNotFound
from corral.sched import LoadedModel
from corral.sched.nodes import NodeRow
from corral.server.body import read_object
from corral.server.deps import deps_of
from corral.server.native.replies import json_reply


async def cluster(request: Request) -> Response:
    """`{"nodes": […]}` in order of their names: state, bytes as last reported, models."""
    scheduler = deps_of(request).scheduler
    loaded = scheduler.loaded()
    return json_reply({"nodes": [_node(row, loaded) for row in scheduler.nodes.rows()]})


async def drain(request: Request) -> Response:
    """`{"node"}` takes nothing more; its models go as they become idle. It takes loads again when it joins anew."""
    fields = convert(await read_object(request), DrainFields)
    nodes = deps_of(request).scheduler.nodes
    if fields.node not in {row.id for row in nodes.rows()}:
        raise NodeNotFound(fields.node)
    nodes.drain(fields.node)
    return json_reply({"status": "success"})


def _node(row: NodeRow, loaded: list[LoadedModel]) -> dict[str, Any]:
    return {
        "name": row.id,
        "state": row.state,
        "cores": row.cores,
        "memory_bytes": row.total_bytes,
        "available_bytes": row.available_bytes,
        "vram_bytes": row.device_total_bytes,
        "vram_free_bytes": row.device_free_bytes,
        "models": sorted({each.name for each in loaded if each.node == row.id}),
        "blobs": row.blobs,
    }
