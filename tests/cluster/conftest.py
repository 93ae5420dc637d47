"""Servers on virtual nodes of a Ray cluster, and what a test has to see of them and do to them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess, linked_store, small_store, start_server
from tests.fakes.processes import children, is_alive, until

__all__ = ["small_store"]
if importlib.util.find_spec("ray") is None:
    pytest.skip("Ray is not installed: pip install -r requirements-cluster.lock", allow_module_level=True)


@dataclass(frozen=True)
class NodeProcesses:
    """One virtual node: its raylet, its agent, and the runners of this."""

    raylet: int
    agent: int
    runners: frozenset[int]

    @property
    def all(self) -> list[int]:
        """Whatever can be frozen to freeze the node."""
        return [self.raylet, *children(self.raylet), *self.runners]


@dataclass
class ClusterServer:
    """A `corral serve --cluster local:N`."""

    server: ServerProcess

    def everything(self) -> set[int]:
        """The server and all that descends from it now."""
        found, fresh = {self.server.pid}, {self.server.pid}
        while fresh:
            fresh = {child for pid in fresh for child in children(pid)} - found
            found |= fresh
        return {pid for pid in found if is_alive(pid)}

    @property
    def driver(self) -> int:
        """The Ray child."""
        found = (pid for pid in children(self.server.pid) if "corral.cluster.driver" in words(pid) and is_alive(pid))
        return next(found, 0)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """What the server says of its nodes, by name."""
        return {row["name"]: row for row in self.server.request("GET", "/api/cluster")["nodes"]}

    def until_nodes(self, *names: str, timeout_s: float = 60.0) -> None:
        """Wait for exactly these nodes."""
        until(lambda: set(self.nodes()) == set(names), timeout_s, f"the nodes {names}, not {set(self.nodes())}")

    def node_of(self, model: str) -> str:
        """Where a loaded model is."""
        rows = self.server.request("GET", "/api/ps?verbose=1")["models"]
        return next(str(row["node"]) for row in rows if row["name"].startswith(model))

    def processes(self, node: str) -> NodeProcesses:
        """The processes of a virtual node."""
        address = f"127.0.0.{int(node.removeprefix('n')) + 1}"
        everything = self.everything()
        raylet = next(
            pid for pid in everything if f"--node_ip_address={address}" in words(pid) and "raylet/raylet" in words(pid)
        )
        agent = next((pid for pid in children(raylet) if "ray::Agent" in words(pid)), 0)
        runners = {pid for pid in children(agent) if "corral.runner.child" in words(pid)} if agent else set()
        return NodeProcesses(raylet, agent, frozenset(runners))


def words(pid: int) -> str:
    """A process's command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def until_gone(pids: set[int], timeout_s: float = 20.0) -> None:
    """None of these processes lives any more."""
    until(lambda: not any(map(is_alive, pids)), timeout_s, "all processes of the server gone")


@contextlib.contextmanager
def cluster_server(
    folder: Path, store: Path, nodes: int, address: str = "", **settings: object
) -> Iterator[ClusterServer]:
    """A server on so many virtual nodes, all of them joined; nothing is left of it afterwards.

    address: of a cluster that is there; "" = the server makes one.
    """
    if not (folder / "models").exists():
        linked_store(store, folder / "models")
    env = {f"CORRAL_{name}": str(value) for name, value in settings.items()}
    with tempfile.TemporaryDirectory(prefix="cr", dir="/tmp") as runtime:
        env |= {
            "CORRAL_CLUSTER": address or f"local:{nodes}",
            "XDG_RUNTIME_DIR": runtime,
            "CORRAL_THREADS": "1",
            "TMPDIR": runtime,
        }
        cluster = ClusterServer(start_server(folder, env=env))
        seen: set[int] = set()
        try:
            cluster.until_nodes(*(f"n{number}" for number in range(1, nodes + 1)))
            seen = cluster.everything()
            yield cluster
        finally:
            seen |= cluster.everything()
            with contextlib.suppress(ProcessLookupError):
                os.kill(cluster.server.pid, signal.SIGCONT)
            cluster.server.stop(timeout_s=60)
            until_gone(seen)
