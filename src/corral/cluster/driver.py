"""The Ray driver: a child of the server, so that nothing of Ray is in the server's process. `python -m` of this module.

Reads its `Task` as a line of JSON from stdin, then `Again` lines: agents that the server has lost. Writes an event a
line to stdout. It ends when stdin does. The one module that imports ray. Ray ends a driver whose head node is gone;
the server then starts another, and agents that were started go on meanwhile, for they are detached.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from corral.cluster.agent import Agent

log = logging.getLogger(__name__)
_LOOK_S = 1.0
_START_S = 60.0  # for an agent to say where it listens; a node that is frozen never does
_RETRY_S = 5.0
_END_S = 20.0
_OBJECT_STORE_BYTES = 80 * 2**20  # nothing is put into it; Ray wants 75 MiB at least
_STARTS_AT_ONCE = 16
_PARENT_GONE = 3
_PART_OF_ID = 12
_LONGEST_FOLDER = 16
# Ray would tell its makers of each cluster, and end agents where memory gets short, which is the policy's to decide
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}


class Task(msgspec.Struct, frozen=True):
    """What to do. address: Ray's own, or "local:N"; home: of the server; settings: for the agents, see Agent.

    linked: nodes whose agents serve this server already, from before the last driver ended.
    """

    address: str
    namespace: str
    home: str
    settings: dict[str, Any]
    linked: tuple[str, ...] = ()


class Again(msgspec.Struct, frozen=True):
    """The agent of this node is lost: start another as soon as the node can have one."""

    node: str


class Connected(msgspec.Struct, frozen=True, tag=True):
    """The cluster is there."""


class Started(msgspec.Struct, frozen=True, tag=True):
    """An agent listens."""

    node: str
    host: str
    port: int
    token: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The cluster is not there; the child ends."""

    why: str


Event = Connected | Started | Failed


class Driver:
    """Keeps one agent on every node that is alive."""

    def __init__(self, task: Task, ray: Any, output: Any) -> None:
        self._task = task
        self._ray = ray
        self._output = output
        self._mutex = threading.Lock()
        self._names: dict[str, str] = {}  # Ray's id of a node -> ours
        self._has_agent: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._actors: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(_STARTS_AT_ONCE, "agents")

    def tell(self, event: Event) -> None:
        """A line to the server."""
        with self._mutex, contextlib.suppress(OSError):
            self._output.write(msgspec.json.encode(event) + b"\n")
            self._output.flush()

    def take_over(self) -> None:
        """Keep the agents that an earlier driver has left this server, and end those of an earlier server."""
        from ray.util import list_named_actors

        nodes = {node["NodeID"][:_PART_OF_ID]: node for node in self._ray.nodes() if node["Alive"]}
        for found in list_named_actors(all_namespaces=True):
            if found["namespace"] != self._task.namespace:
                continue
            with contextlib.suppress(ValueError):  # it has just ended
                actor = self._ray.get_actor(found["name"], namespace=self._task.namespace)
                node = nodes.get(found["name"].split("-")[1])
                if node is not None and self._name(node) in self._task.linked:
                    self._has_agent.add(node["NodeID"])
                    self._actors[node["NodeID"]] = actor
                else:
                    log.info("ending %s, which an earlier server has left", found["name"])
                    self._kill(actor)

    def look(self) -> None:
        """Start agents where there are none."""
        for node in self._ray.nodes():
            identity = node["NodeID"]
            if not node["Alive"]:
                self._has_agent.discard(identity)
            elif identity not in self._has_agent and time.monotonic() >= self._not_before.get(identity, 0.0):
                self._has_agent.add(identity)
                self._pool.submit(self._start, identity, self._name(node), node["NodeManagerAddress"])

    def again(self, name: str) -> None:
        """The agent of this node is of no use any more."""
        identity = next((key for key, known in self._names.items() if known == name), None)
        if identity is not None:
            self._give_up(identity)

    def _name(self, node: dict[str, Any]) -> str:
        """What users call it: its name, where two have one with a part of Ray's id."""
        identity, name = node["NodeID"], node["NodeName"] or node["NodeManagerAddress"]
        if identity not in self._names:
            taken = any(known == name for key, known in self._names.items() if key in self._has_agent)
            self._names[identity] = f"{name}-{identity[:6]}" if taken else name
        return self._names[identity]

    def _start(self, identity: str, name: str, host: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        settings = dict(self._task.settings)
        if self._task.address.startswith("local:"):
            settings |= _virtual(self._task.home, name)
        try:
            actor = (
                self._ray.remote(Agent)
                .options(
                    name=f"agent-{identity[:_PART_OF_ID]}-{os.urandom(3).hex()}",
                    namespace=self._task.namespace,
                    lifetime="detached",  # it ends with the server (agent.py), not with this driver
                    num_cpus=0,
                    max_restarts=0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(identity, soft=False),
                )
                .remote(name, host, settings)
            )
            self._actors[identity] = actor
            host, port, token = self._ray.get(actor.address.remote(), timeout=_START_S)
        except Exception:
            log.exception("no agent could be started on node %s; trying again", name)
            self._give_up(identity)
        else:
            self.tell(Started(name, host, port, token))

    def _give_up(self, identity: str) -> None:
        actor = self._actors.pop(identity, None)
        if actor is not None:
            self._kill(actor)
        self._not_before[identity] = time.monotonic() + _RETRY_S
        self._has_agent.discard(identity)

    def _kill(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it is dead already, or its node is
            self._ray.kill(actor, no_restart=True)


def _virtual(home: str, name: str) -> dict[str, Any]:
    """Settings of a node that is one in name only: a home of its own on the same disk."""
    folder = Path(home) / "cluster" / name
    return {"home": str(folder), "models": str(folder / "models")}


@contextlib.contextmanager
def _cluster(task: Task) -> Iterator[tuple[str, dict[str, Any]]]:
    """(address, more for ray.init) of the cluster; a virtual one exists within the block."""
    kind, _, count = task.address.partition(":")
    if kind != "local":
        yield task.address, {}
        return
    from ray.cluster_utils import Cluster

    share: dict[str, Any] = {
        "num_cpus": 1,
        "num_gpus": 0,
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
    }
    # Ray takes "127.0.0.1" for a mistake and puts the machine's own address in its place
    address = "127.0.0.{}" if sys.platform == "linux" else None
    first = {} if address is None else {"node_ip_address": address.format(2)}
    cluster = Cluster(initialize_head=True, head_node_args={**share, **first, "node_name": "n1"})
    try:
        for number in range(2, int(count) + 1):
            place = {} if address is None else {"node_ip_address": address.format(number + 1)}
            cluster.add_node(**share, **place, node_name=f"n{number}", wait=False)
        yield cluster.address, {} if address is None else {"_node_ip_address": address.format(2)}
    finally:
        with contextlib.suppress(Exception):  # a node that was killed is no reason to leave the others
            cluster.shutdown()


def _serve(task: Task, output: Any, ended: threading.Event) -> None:
    import ray

    with _cluster(task) as (address, more):
        # another Corral on the same cluster has a namespace of its own
        ray.init(address, namespace=task.namespace, log_to_driver=False, logging_level=logging.WARNING, **more)
        driver = Driver(task, ray, output)
        threading.Thread(target=_listen, args=(driver, ended), daemon=True).start()
        try:
            driver.take_over()
            driver.tell(Connected())
            while not ended.wait(_LOOK_S):
                driver.look()
        finally:
            ray.shutdown()


def _listen(driver: Driver, ended: threading.Event) -> NoReturn:
    decoder = msgspec.json.Decoder(Again)
    for text in sys.stdin.buffer:
        driver.again(decoder.decode(text).node)
    ended.set()
    time.sleep(_END_S)
    os._exit(_PARENT_GONE)  # what Ray has started has reapers of its own


def _short_folder() -> Path:
    """For sockets, whose paths are bounded."""
    usual = Path(tempfile.gettempdir())
    return usual if len(str(usual)) < _LONGEST_FOLDER else Path("/tmp")  # noqa: S108  Ray makes a private one below


def main() -> int:
    """Until the server ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Ray prints
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    folder = None
    if task.address.startswith("local:"):
        folder = _short_folder() / f"ray-{task.namespace}"
        shutil.rmtree(folder, ignore_errors=True)
        os.environ |= {"RAY_TMPDIR": str(folder), **_QUIET}  # noqa: TID251  read by Ray, and by nobody else here
    try:
        _serve(task, output, threading.Event())
    except Exception as error:
        log.exception("the cluster is out of reach")
        with contextlib.suppress(OSError):
            output.write(msgspec.json.encode(Failed(str(error))) + b"\n")
            output.flush()
        return 1
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
