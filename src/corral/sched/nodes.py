"""The machines that runners can be on, and what each has. Pure; owned by policy.py, told of by members.py.

A server without a cluster is a cluster of one node, whose id is "" and which is never shown. With a cluster there may
be none until the first agent has joined; then requests wait, for `Limits.node_wait_s` at most.

| state    | means                                                                            | ends by            |
|----------|----------------------------------------------------------------------------------|--------------------|
| up       | takes loads and requests                                                         | drain, loss        |
| draining | no load, no further request; its runners stop as they become idle                | joining anew, loss |
| lost     | gone with all its runners; the policy keeps no record of it                      | joining anew       |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from corral.sched.memory import HostFigures

HERE = ""  # the node of a server without a cluster


@dataclass(slots=True)
class Node:
    """One machine as the policy knows it.

    figures: None = not read since something changed there; their time is figures_at. blobs: digests ("sha256:<hex>")
    of the blobs in its store. max_loaded: runners that may be there at once. reading: new figures were asked for.
    """

    id: str
    figures: HostFigures | None = None
    figures_at: float = 0.0
    blobs: frozenset[str] = frozenset()
    state: Literal["up", "draining"] = "up"
    max_loaded: int = 3
    reading: bool = False
    is_suspect: bool = False  # said to be gone, and not heard of since
    cores: int = 0
    runners: dict[int, None] = field(default_factory=dict)  # ids, oldest first
    persons: int = 0  # leases of its runners that are no lines of batches
    free_bytes: int = 0  # of its devices, or of its memory where there are none: as known, less what was started since
    known: HostFigures = field(default_factory=lambda: HostFigures(0, 0))  # the last figures, however old

    def report(self, figures: HostFigures, now: float) -> None:
        """Take new figures."""
        self.figures, self.figures_at, self.reading, self.is_suspect = figures, now, False, False
        self.cores, self.known = figures.cores, figures


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node, to be listed: bytes as last reported."""

    id: str
    state: str
    cores: int
    total_bytes: int
    available_bytes: int
    device_total_bytes: int
    device_free_bytes: int
    runners: int
    blobs: int


def describe_node(node: Node) -> NodeRow:
    """The row of one node; zeros until it has reported."""
    figures = node.known
    return NodeRow(
        id=node.id,
        state=node.state,
        cores=node.cores,
        total_bytes=figures.total_bytes,
        available_bytes=figures.available_bytes,
        device_total_bytes=figures.device_total_bytes,
        device_free_bytes=figures.device_free_bytes,
        runners=len(node.runners),
        blobs=len(node.blobs),
    )
