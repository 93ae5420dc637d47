"""What there is to plan with: this machine's figures, read when asked for, or those that a cluster's nodes report.

`scheduler.py` owns one `Survey`. Loads are planned (plan.py) for one machine: this one, or the largest that has joined;
the policy shrinks them to the node where they go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from corral.aio import run_blocking
from corral.errors import NoNode
from corral.sched.events import Event, NodeReported
from corral.sched.hostmemory import HostMemory
from corral.sched.launch import NodeSource
from corral.sched.memory import HostFigures
from corral.sched.nodes import HERE

log = logging.getLogger(__name__)


class Survey:
    """The figures, and how they come. cluster: None = there is this machine only; wait_s: how long a node may take."""

    def __init__(self, host_memory: HostMemory, cluster: NodeSource | None, wait_s: float) -> None:
        self.host = HostFigures(0, 0)
        self._host_memory = host_memory
        self._cluster = cluster
        self._wait_s = wait_s
        self._done = asyncio.Event()  # there are figures

    async def first(self) -> None:
        """Read this machine's figures, which may take seconds; a cluster's come with its nodes."""
        if self._cluster is None:
            await self._refresh()
            self._done.set()

    async def last_read(self) -> HostFigures:
        """As last read; waits for the first reading. Raises NoNode when no node joins a cluster in time."""
        try:
            async with asyncio.timeout(None if self._cluster is None else self._wait_s):
                await self._done.wait()
        except TimeoutError:
            raise NoNode(self._wait_s) from None
        return self.host

    async def now(self) -> HostFigures:
        """Read for this; of a cluster as last reported."""
        await self.last_read()
        if self._cluster is None:
            await self._refresh()
        return self.host

    def note(self, figures: HostFigures) -> None:
        """A node has reported."""
        if _size(figures) >= _size(self.host):
            self.host = figures
        self._done.set()

    def ask(self, node: str, post: Callable[[Event], None], spawn: Callable[[Awaitable[None]], None]) -> None:
        """Have NodeReported posted for this node soon."""
        if self._cluster is not None:
            self._cluster.ask_report(node)
            return

        async def read() -> None:
            await self._refresh()
            post(NodeReported(HERE, self.host))

        spawn(read())

    async def _refresh(self) -> None:
        try:
            self.host = await run_blocking(self._host_memory.read)
        except Exception:
            log.exception("the host's memory figures cannot be read; the last ones are used")


def _size(figures: HostFigures) -> tuple[int, int]:
    return figures.device_total_bytes, figures.total_bytes
