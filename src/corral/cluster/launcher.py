"""`ClusterLauncher`: runners on the nodes of a Ray cluster; the scheduler's Launcher and NodeSource.

Keeps the Ray child (driver.py) running and a link to every agent that it starts. A node that is lost is told to the
scheduler, its agent is started anew as soon as the node can have one, and then it joins as any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
import os
import random
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Protocol

import msgspec

from corral.aio import run_blocking
from corral.cluster.driver import Again, Connected, Event, Failed, Started, Task
from corral.cluster.handle import RemoteHandle
from corral.cluster.link import AgentLink, Nodes
from corral.cluster.listener import Listener
from corral.cluster.sharing import BlobShare
from corral.cluster.wire import Need, Source
from corral.config import Settings
from corral.errors import BlobNotFound, CorralError
from corral.names import Digest
from corral.runner.drafts import DraftTallies
from corral.runner.spec import Planned, RunnerSpec
from corral.store.blobs import BlobStore

log = logging.getLogger(__name__)
_RESTART_S = 5.0
_END_S = 15.0
_EVENTS: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
# what agents take of the server's settings; addresses, folders, programs and the sandbox are each node's own
_SHARED = (
    "load_timeout_s",
    "hang_timeout_s",
    "runner_room_bytes",
    "gpu_overhead_bytes",
    "debug",
    "limit_rate",
    "max_transfer_streams",
    "threads",
    "saved_conversations_bytes",
    "speculation",
    "huge_pages",
    "share_cache",
)


class ClusterExtraMissing(CorralError):
    """Ray is not installed."""

    def __init__(self) -> None:
        super().__init__("a cluster needs Ray, which is not installed here: pip install 'corral[cluster]'")


class ClusterOutOfReach(CorralError):
    """There is no Ray cluster at the address."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"the cluster {address} is out of reach: {why}")
        self.address = address


class Members(Nodes, Protocol):
    """Who is told of nodes."""

    def lost(self, node_id: str, why: str = "") -> None:
        """It is gone."""
        ...


class ClusterLauncher:
    """`start` it before anything is asked of it, and `close` it. Belongs to one event loop."""

    def __init__(self, settings: Settings, blobs: BlobStore) -> None:
        self._settings = settings
        self._blobs = blobs
        self._share = BlobShare(lambda digest: blobs.path(digest) if blobs.has(digest) else None)
        self._listeners: dict[str, tuple[Listener, str]] = {}  # by our own address: a network each
        self._links: dict[str, AgentLink] = {}
        self._drafts = DraftTallies()
        self._child: asyncio.subprocess.Process | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._members: Members | None = None

    # ---- the scheduler's side

    def create(self, spec: RunnerSpec, planned: Planned = Planned(), node: str = "") -> RemoteHandle:  # noqa: B008  frozen
        """A runner on this node that has not been started."""
        spec = self._drafts.apply(spec)
        handle = RemoteHandle(spec, planned, self._links.get(node), lambda: self._needs(spec, node))
        handle.client.drafts = self._drafts.of(spec)
        return handle

    def ask_report(self, node_id: str) -> None:
        """Have this node report soon."""
        if (link := self._links.get(node_id)) is not None:
            link.ask_report()

    async def _needs(self, spec: RunnerSpec, node: str) -> tuple[Need, ...]:
        return tuple([await self._need(path, node) for path in dict.fromkeys(spec.readable_paths)])

    async def _need(self, path: Path, node: str) -> Need:
        """Who has the blob: peers on the same host first, then any, at last this server's store."""
        digest = Digest.parse(path.name)
        try:
            size = (await run_blocking(self._blobs.path(digest).stat)).st_size
        except OSError:
            raise BlobNotFound(str(digest)) from None
        target = self._links.get(node)
        peers = [link for link in self._links.values() if link.node != node and str(digest) in link.blobs]
        random.shuffle(peers)  # so that not all ask the same one
        peers.sort(key=lambda link: target is None or link.host != target.host)
        sources = [link.source for link in peers if link.source is not None]
        if target is not None and target.local_host:
            sources.append(await self._own_source(target.local_host))
        return Need(str(digest), size, tuple(sources))

    async def _own_source(self, host: str) -> Source:
        """This server's store, at the address by which the agent sees us."""
        if host not in self._listeners:
            listener = Listener()
            token = listener.admit(self._share.serve)
            self._listeners[host] = listener, token
            await listener.listen(host)
        listener, token = self._listeners[host]
        return Source(listener.host, listener.port, token)

    # ---- life

    async def start(self, members: Members) -> None:
        """Connect to the cluster; agents join as they start. Raises ClusterExtraMissing, ClusterOutOfReach."""
        if importlib.util.find_spec("ray") is None:
            raise ClusterExtraMissing
        self._members = members
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keep(self._drive(connected))
        await connected

    async def close(self) -> None:
        """Let go of all agents, which end, and of the cluster. Blocks until the Ray child is gone."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener, _ in self._listeners.values():
            await listener.close()
        if self._child is not None:
            await self._end_child(self._child)

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, connected: asyncio.Future[None]) -> None:
        """Keep the Ray child running; the first one has to come up."""
        while True:
            why = await self._run_child(connected)
            if not connected.done():
                connected.set_exception(ClusterOutOfReach(self._settings.cluster, why))
                return
            log.warning("the Ray driver ended (%s); another is started", why)
            await asyncio.sleep(_RESTART_S)

    async def _run_child(self, connected: asyncio.Future[None]) -> str:
        """One Ray child, until it ends; why it did."""
        child = self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "corral.cluster.driver"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        why = "it ended"
        try:
            child.stdin.write(msgspec.json.encode(self._task()) + b"\n")
            async for text in child.stdout:
                match _EVENTS.decode(text):
                    case Connected():
                        if not connected.done():
                            connected.set_result(None)
                    case Started() as started:
                        self._keep(self._follow(started))
                    case Failed() as failed:
                        why = failed.why
        except ConnectionError:
            pass  # it died at once
        await child.wait()
        return why

    def _task(self) -> Task:
        settings = self._settings
        mine = f"{socket.gethostname()}:{settings.home}:{settings.host.port}"
        namespace = f"corral-{hashlib.sha256(mine.encode()).hexdigest()[:10]}"
        shared: dict[str, Any] = {name: getattr(settings, name) for name in _SHARED}
        # keys stay here: what an agent has to know is whether there are several
        shared["api_keys"] = [hashlib.sha256(key.encode()).hexdigest() for key in settings.api_keys]
        return Task(settings.cluster, namespace, str(settings.home), shared, tuple(self._links))

    async def _follow(self, started: Started) -> None:
        """An agent, from its start to its loss."""
        assert self._members is not None
        link = AgentLink(started, self._members)
        earlier = self._links.get(link.node)
        self._links[link.node] = link
        if earlier is not None:
            log.warning("node %s has a new agent although its old one was not lost", link.node)
        try:
            why = await link.run()
        finally:
            if self._links.get(link.node) is link:
                del self._links[link.node]
        log.warning("node %s is lost: %s", link.node, why)
        if link.has_joined:
            self._members.lost(link.node, why)
        self._tell_child(Again(link.node))

    def _tell_child(self, again: Again) -> None:
        if self._child is not None and self._child.stdin is not None and self._child.returncode is None:
            with contextlib.suppress(ConnectionError):
                self._child.stdin.write(msgspec.json.encode(again) + b"\n")

    async def _end_child(self, child: asyncio.subprocess.Process) -> None:
        if child.stdin is not None:
            child.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
