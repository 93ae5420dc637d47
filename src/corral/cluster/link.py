"""`AgentLink`: the server's connection to one agent. It gives orders, hears reports, and notices when a node is gone.

| what happens                         | noticed                                     |
|--------------------------------------|---------------------------------------------|
| the agent is killed, its raylet is   | at once, in BEAT_S: the connection ends     |
| the node is frozen, the network cut  | after SILENCE_S without a sign of life      |
| the server is killed, frozen, cut    | by the agent, in the same two ways          |

However it was noticed, the connection is cut and never used again: an agent that thaws finds it closed and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from typing import Protocol

from msgspec import DecodeError

from corral import __version__
from corral.cluster.agent import BEAT_S, SILENCE_S, SWITCHING
from corral.cluster.driver import Started
from corral.cluster.handle import RemoteHandle
from corral.cluster.listener import read_line
from corral.cluster.wire import (
    MAX_LINE_BYTES,
    Beat,
    Ended,
    Hello,
    Order,
    Report,
    ReportAsked,
    Source,
    Told,
    line,
    read_told,
)
from corral.sched.memory import HostFigures

log = logging.getLogger(__name__)
_CONNECT_S = 4.0
_BUFFER_BYTES = 2**18


class Nodes(Protocol):
    """Who wants to know of nodes; the scheduler's Members."""

    def joined(self, node_id: str, figures: HostFigures, blobs: tuple[str, ...] = ()) -> None:
        """A node takes loads."""
        ...

    def reported(self, node_id: str, figures: HostFigures, blobs: tuple[str, ...] | None = None) -> None:
        """What it has now."""
        ...


class AgentLink:
    """One agent, from its start to its loss. `run` once."""

    def __init__(self, started: Started, nodes: Nodes) -> None:
        self.node, self.host, self.port = started.node, started.host, started.port
        self.blobs: frozenset[str] = frozenset()
        self.local_host = ""  # our own address as the agent can reach it
        self.source: Source | None = None  # of its blobs
        self.has_joined = False
        self.pid = 0
        self._token = started.token
        self._nodes = nodes
        self._handles: dict[int, RemoteHandle] = {}
        self._ids = itertools.count(1)
        self._writer: asyncio.StreamWriter | None = None
        self._lost = ""

    def __repr__(self) -> str:
        return f"<AgentLink {self.node} {self.host}:{self.port} runners={len(self._handles)} {self._lost}>"

    def send(self, order: Order) -> None:
        """Neither waits nor raises."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(line(order))

    def add(self, handle: RemoteHandle) -> int:
        """Number a runner's handle; one of an agent that is lost already is told so."""
        number = next(self._ids)
        if self._lost:
            handle.lose(self.node, self._lost)
        else:
            self._handles[number] = handle
        return number

    def ask_report(self) -> None:
        """Have it report soon."""
        self.send(ReportAsked())

    async def run(self) -> str:
        """Until it is lost; why. Its runners' handles are closed then."""
        try:
            self._lost = await self._follow()
        finally:
            self._lost = self._lost or "the server ends"
            if self._writer is not None:
                self._writer.transport.abort()
            for handle in self._handles.values():
                handle.lose(self.node, self._lost)
            self._handles.clear()
        return self._lost

    async def _follow(self) -> str:
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(self.host, self.port, limit=_BUFFER_BYTES)
                self._writer = writer
                writer.write(f"GET / HTTP/1.1\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode())
                answer = await reader.readuntil(b"\r\n\r\n")
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            return f"its agent cannot be reached: {str(error) or type(error).__name__}"
        if answer != SWITCHING:
            return "its agent does not let us in"
        self.local_host = writer.get_extra_info("sockname")[0]
        beating = asyncio.create_task(self._beat())
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    text = await read_line(reader, MAX_LINE_BYTES)
                if not text:
                    return "its agent hung up"
                self._take(read_told(text))
        except TimeoutError:
            return f"no sign of life for {SILENCE_S:g} s"
        except DecodeError:
            return "its agent says what no agent says"
        except _WrongVersion as error:
            return str(error)
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self) -> None:
        while True:
            self.send(Beat())
            await asyncio.sleep(BEAT_S)

    def _take(self, told: Told) -> None:
        match told:
            case Hello():
                if told.version != __version__:
                    raise _WrongVersion(f"its Corral is {told.version}, this one {__version__}")
                self.source, self.pid = Source(self.host, self.port, told.share), told.pid
            case Report():
                self._take_report(told)
            case Beat():
                pass
            case _:
                handle = self._handles.get(told.id)
                if handle is not None:
                    handle.take(told)
                if isinstance(told, Ended):
                    self._handles.pop(told.id, None)

    def _take_report(self, report: Report) -> None:
        if report.blobs is not None:
            self.blobs = frozenset(report.blobs)
        if not self.has_joined:
            self.has_joined = True
            self._nodes.joined(self.node, report.figures, report.blobs or ())
        else:
            self._nodes.reported(self.node, report.figures, report.blobs)


class _WrongVersion(Exception):
    """The agent is another Corral's."""
