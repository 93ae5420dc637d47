"""What the scheduler asks of runners and of where they come from: the seam between deciding and processes.

`runner.handle.RunnerHandle`, `runner.kvcache.ConversationStore` and `runner.launch.LocalLauncher` fulfil these
protocols on one machine; tests have fakes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from corral.errors import CorralError
from corral.runner.client import RunnerClient
from corral.runner.reading import Reading
from corral.runner.slots import SlotTable
from corral.runner.spec import Planned, RunnerInfo, RunnerSpec
from corral.sched.nodes import HERE


class Handle(Protocol):
    """The server's hold of one runner."""

    @property
    def spec(self) -> RunnerSpec:
        """What it is launched with."""
        ...

    @property
    def closed(self) -> asyncio.Event:
        """Set when the runner is gone and reaped."""
        ...

    @property
    def client(self) -> RunnerClient:
        """Talks to the engine; usable once started."""
        ...

    @property
    def info(self) -> RunnerInfo:
        """What the runner said when it got ready."""
        ...

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        ...

    @property
    def failure(self) -> CorralError:
        """Why a runner that is gone is: RunnerDied, or why it was killed."""
        ...

    async def start(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Until it is ready; raises RunnerFailedToStart, or why its files cannot be translated for the engine.

        on_progress: bytes so far and in all, while they are.
        """
        ...

    async def stop(self, grace_s: float = 5.0) -> None:
        """Until it is reaped; may be called in every state, never raises."""
        ...


class Conversations(Protocol):
    """What survives a runner: the prompts its slots have read. Both calls log what fails and raise nothing.

    owned: what is in the slots.
    """

    async def save(self, client: RunnerClient, spec: RunnerSpec, owned: SlotTable | None = None) -> int:
        """Before a runner stops; how many were saved. Bounded in time."""
        ...

    async def restore(self, client: RunnerClient, spec: RunnerSpec, slots: int, owned: SlotTable | None = None) -> int:
        """Into a runner that has served nothing yet; how many."""
        ...


class Readings(Protocol):
    """How fast prompts are read."""

    def known(self, model_path: Path) -> Reading:
        """By this model, and by others."""
        ...


class Launcher(Protocol):
    """Where runners come from: processes of this machine, or of the nodes of a cluster.

    A launcher whose runners can save what they have read has a `conversations: Conversations`; one that knows how fast
    they read has a `reading: Readings`.
    """

    def create(self, spec: RunnerSpec, planned: Planned = ..., node: str = HERE) -> Handle:
        """A runner on this node that has not been started, and may take what was planned."""
        ...


class NodeSource(Protocol):
    """What knows the machines of a cluster; it tells of them through `Scheduler.nodes`."""

    def ask_report(self, node_id: str) -> None:
        """Have this node report soon; neither waits nor raises. A node that cannot is found lost in its own time."""
        ...
