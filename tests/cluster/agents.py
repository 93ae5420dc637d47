"""An agent without Ray: the same process that Ray would start on a node, and a link to it as the server has one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from corral.cluster.driver import Started
from corral.cluster.handle import RemoteHandle
from corral.cluster.link import AgentLink
from corral.cluster.wire import Need
from corral.runner.spec import Planned, RunnerSpec
from corral.sched.memory import HostFigures

_PROGRAM = """
import json, sys
from corral.cluster.agent import Agent
node, settings = json.loads(sys.argv[1])
print(*Agent(node, "127.0.0.1", settings).address(), flush=True)
sys.stdin.read()
"""


@dataclass
class Nodes:
    """Hears of nodes in the scheduler's place."""

    figures: HostFigures | None = None
    blobs: tuple[str, ...] = ()
    reports: int = 0
    first: asyncio.Event = field(default_factory=asyncio.Event)

    def joined(self, node_id: str, figures: HostFigures, blobs: tuple[str, ...] = ()) -> None:
        """The first report."""
        self.figures, self.blobs = figures, blobs
        self.first.set()

    def reported(self, node_id: str, figures: HostFigures, blobs: tuple[str, ...] | None = None) -> None:
        """A later one."""
        self.reports += 1


@dataclass
class RunningAgent:
    """An agent's process, and our link to it."""

    process: asyncio.subprocess.Process
    link: AgentLink
    following: asyncio.Task[str]
    nodes: Nodes
    runtime: Path

    def handle(self, model: Path) -> RemoteHandle:
        """A runner of a blob that the node has."""

        async def needs() -> tuple[Need, ...]:
            return ()

        spec = RunnerSpec(model, context_window=512, num_parallel=1, n_threads=1, use_mmap=False)
        return RemoteHandle(spec, Planned(), self.link, needs)

    def socket(self) -> Path:
        """The engine's own socket."""
        return next(self.runtime.glob("*/*/s.sock"))


@contextlib.asynccontextmanager
async def running_agent(folder: Path, models: Path) -> AsyncIterator[RunningAgent]:
    """On a node that has the blobs of a store; killed at the end, whatever became of it."""
    with tempfile.TemporaryDirectory(prefix="cr", dir="/tmp") as runtime:
        settings = {"home": str(folder / "home"), "models": str(models), "kernels": "off", "hang_timeout_s": 30.0}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM, json.dumps(["oak", settings])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "XDG_RUNTIME_DIR": runtime},
        )
        assert process.stdout is not None
        host, port, token = (await process.stdout.readline()).decode().split()
        nodes = Nodes()
        link = AgentLink(Started("oak", host, int(port), token), nodes)
        following = asyncio.create_task(link.run())
        joined = asyncio.create_task(nodes.first.wait())
        try:
            await asyncio.wait({joined, following}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            yield RunningAgent(process, link, following, nodes, Path(runtime))
        finally:
            following.cancel()
            joined.cancel()
            await asyncio.gather(following, joined, return_exceptions=True)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()
