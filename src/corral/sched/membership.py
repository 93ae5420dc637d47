"""Machines of a cluster that join, report, are emptied or lost: what that does to their runners. Pure."""

from __future__ import annotations

from collections.abc import Callable

from corral.errors import CorralError, NodeGone
from corral.sched.events import Action, Interrupt, NodeDrainAsked, NodeJoined, NodeLost, NodeReported
from corral.sched.fleet import Fleet
from corral.sched.nodeindex import Nodes
from corral.sched.nodes import Node
from corral.sched.state import Limits, Runner


class Membership:
    """Keeps the nodes as their events tell."""

    def __init__(self, limits: Limits, nodes: Nodes, fleet: Fleet, act: Callable[[Action], None]) -> None:
        self._limits = limits
        self._nodes = nodes
        self._fleet = fleet
        self._act = act

    def take(self, event: NodeJoined | NodeReported | NodeLost | NodeDrainAsked, now: float) -> None:
        """One event; one about a node that was lost a moment ago changes nothing."""
        if isinstance(event, NodeJoined):
            self._on_joined(event, now)
            return
        node = self._nodes.get(event.node_id)
        if node is None:
            return
        match event:
            case NodeReported():
                node.report(event.figures, now)
                self._nodes.keep_blobs(node, node.blobs if event.blobs is None else event.blobs)
                self._nodes.changed(node.id, self._fleet.on(node.id))
            case NodeDrainAsked():
                node.state = "draining"
                self._fleet.leave(node.id, now)
            case NodeLost():
                self._on_lost(node, event.why)

    def suspect(self, runner: Runner, error: CorralError) -> None:
        """A node that is said to be gone gets no loads until it reports again, or is lost."""
        if isinstance(error, NodeGone) and (node := self._nodes.get(runner.node)) is not None:
            node.is_suspect = True

    def _on_joined(self, event: NodeJoined, now: float) -> None:
        if event.node_id not in self._nodes:
            self._nodes.add(Node(event.node_id))
        node = self._nodes[event.node_id]
        node.state, node.max_loaded = "up", self._limits.places(len(event.figures.devices))
        node.report(event.figures, now)
        self._nodes.keep_blobs(node, event.blobs)
        for runner in self._fleet.on(node.id):
            runner.leaving = False
            self._fleet.file(runner, now)
        self._nodes.changed(node.id, self._fleet.on(node.id))

    def _on_lost(self, node: Node, why: str) -> None:
        """Its runners are gone at once; no breaker counts that, for it says nothing of them."""
        for runner in self._fleet.on(node.id):
            self._fleet.stop("lost", [runner])
            self._fleet.remove(runner.id)
            for request_id in runner.leases:
                self._act(Interrupt(request_id, NodeGone(node.id, why)))
        self._nodes.remove(node.id)
