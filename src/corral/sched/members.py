"""How the machines of a cluster tell the scheduler of themselves (`Scheduler.nodes`): cluster/ tells, server/ lists.

Calls post events and never wait. Ids are what users read and what settings name; one that left may come back under its
id. Without a cluster nobody calls any of this: the scheduler reads the one machine's figures itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from corral.sched.events import Event, NodeDrainAsked, NodeJoined, NodeLost, NodeReported
from corral.sched.memory import HostFigures
from corral.sched.nodes import HERE, Node, NodeRow, describe_node


class Members:
    """The nodes of a cluster, as events and as rows. known: the policy's nodes."""

    def __init__(self, post: Callable[[Event], None], known: Callable[[], Mapping[str, Node]]) -> None:
        self._post = post
        self._known = known

    def joined(self, node_id: str, figures: HostFigures, blobs: Iterable[str] = ()) -> None:
        """A machine is there and takes loads; one that is known keeps its runners, and its drain ends."""
        self._post(NodeJoined(node_id, figures, frozenset(blobs)))

    def reported(self, node_id: str, figures: HostFigures, blobs: Iterable[str] | None = None) -> None:
        """What it has now; figures older than `Limits.memory_age_s` are not used. blobs: None = as before."""
        self._post(NodeReported(node_id, figures, None if blobs is None else frozenset(blobs)))

    def lost(self, node_id: str, why: str = "") -> None:
        """It is gone with its runners: requests that wait go elsewhere, running ones end with NodeGone."""
        self._post(NodeLost(node_id, why))

    def drain(self, node_id: str) -> None:
        """It takes nothing more; its runners stop as they become idle."""
        self._post(NodeDrainAsked(node_id))

    def rows(self) -> list[NodeRow]:
        """The nodes of the cluster, in order of their ids; none without a cluster."""
        return [describe_node(node) for name, node in sorted(self._known().items()) if name != HERE]
