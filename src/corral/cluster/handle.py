"""`RemoteHandle`: the server's hold of a runner on another machine; fulfils sched/launch.py's Handle.

The process, its watchdog, its limits and its conversations are the agent's; here is what the scheduler asks, and a
client whose calls go straight to a relay beside the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from corral.cluster.nodeblobs import paths_of, with_paths
from corral.cluster.wire import Condemn, Create, End, Ended, Lost, Making, Need, Order, Ready, error_of
from corral.errors import CorralError, NodeGone, RunnerDied, RunnerMisbehaved
from corral.runner.client import RunnerClient
from corral.runner.endpoint import Relay
from corral.runner.spec import Planned, RunnerInfo, RunnerSpec

_EXPLAIN_WAIT_S = 5.0  # a broken connection is noticed before the agent tells why, or before it is found lost itself
_NOWHERE = Relay("", 0, "")
RunnerTold = Making | Ready | Lost | Ended


class Link(Protocol):
    """What a handle needs of the connection to its node's agent."""

    node: str
    host: str
    port: int

    def send(self, order: Order) -> None:
        """Neither waits nor raises."""
        ...

    def add(self, handle: RemoteHandle) -> int:
        """The handle's number; from now on it gets what is told of it, at the latest that its node is gone."""
        ...


class RemoteHandle:
    """One runner on another machine. needs: the blobs that it opens, and where they can be had; may read the disk."""

    def __init__(
        self, spec: RunnerSpec, planned: Planned, link: Link | None, needs: Callable[[], Awaitable[tuple[Need, ...]]]
    ) -> None:
        self.spec = spec
        self.closed = asyncio.Event()
        self.client = RunnerClient(_NOWHERE, self._explain)
        self.client.connections.on_misbehaviour = self._condemn
        self.info = RunnerInfo()
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.last_lines: tuple[str, ...] = ()
        self._planned = planned
        self._link = link
        self._needs = needs
        self._id: int | None = None
        self._failure: CorralError | None = None
        self._on_progress: Callable[[int, int], None] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<RemoteHandle {self.spec.model_path.name} on {self._link.node if self._link else '-'} pid={self.pid}>"

    async def start(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Have the agent start it, with what it lacks of its blobs. on_progress: bytes that come or are translated.

        Raises RunnerFailedToStart, NodeGone, and why its files cannot be had.
        """
        if self._link is None:
            self.lose("", "it is no node of the cluster any more")
        else:
            needs = await self._needs()
            self._on_progress = on_progress
            if not self.closed.is_set():  # stop() may have come in between
                self._id = self._link.add(self)
                self._link.send(Create(self._id, self.spec, self._planned, needs))
        if self._failure is not None:
            raise self._failure
        await self._ready

    async def stop(self, grace_s: float = 5.0) -> None:
        """Until the agent has reaped it, or is gone with it."""
        if self._id is None or self._link is None:
            self.closed.set()
        elif not self.closed.is_set():
            self._link.send(End(self._id, grace_s))
        await self.closed.wait()
        await self.client.close()

    def take(self, told: RunnerTold) -> None:
        """What the agent says of it."""
        match told:
            case Making():
                if self._on_progress is not None and not self._ready.done():
                    self._on_progress(told.done_bytes, told.total_bytes)
            case Ready():
                assert self._link is not None
                ours = paths_of(self.spec)
                self.spec = with_paths(told.spec, lambda path: ours.get(path.name, path))
                self.info, self.pid = told.info, told.pid
                self.client.connections.endpoint = Relay(self._link.host, self._link.port, told.token)
                if not self._ready.done():
                    self._ready.set_result(None)
            case Lost():
                self.client.note_grammar_lost(told.why)
            case Ended():
                self.exit_code, self.last_lines = told.exit_code, told.last_lines
                self._end(error_of(told.problem))

    def lose(self, node: str, why: str) -> None:
        """Its node is gone; calls in flight end."""
        self._end(NodeGone(node, why))

    def _end(self, error: CorralError) -> None:
        if self.closed.is_set():
            return
        self.pid = None
        self._failure = self._failure or error
        if isinstance(error, NodeGone):
            self._failure, self.last_lines = error, error.last_lines
        self.closed.set()
        if not self._ready.done():
            self._ready.set_exception(self._failure)
            self._ready.exception()  # taken, for nobody may wait any more
        closing = asyncio.get_running_loop().create_task(self.client.close())
        _CLOSING.add(closing)
        closing.add_done_callback(_CLOSING.discard)

    async def _explain(self) -> CorralError:
        """Why a connection broke."""
        try:
            async with asyncio.timeout(_EXPLAIN_WAIT_S):
                await self.closed.wait()
        except TimeoutError:
            self._condemn(RunnerMisbehaved("it hung up in the middle of it"))
        return self.failure

    @property
    def failure(self) -> CorralError:
        """Why a runner that is gone is."""
        return self._failure or RunnerDied(self.exit_code, self.last_lines)

    def _condemn(self, error: RunnerMisbehaved) -> None:
        if not self.closed.is_set() and self._failure is None and self._link is not None and self._id is not None:
            self._failure = error
            self._link.send(Condemn(self._id, error.what, str(error)))


_CLOSING: set[asyncio.Task[None]] = set()  # clients; each has its connections cut in a moment
