"""Where runners come from: `Launcher` is the seam (a local process today), `LocalLauncher` the one implementation.

Used by sched/, which asks for a handle per load and never learns how a runner is made.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from corral.config import Settings, runner_environment
from corral.runner.client import RunnerClient
from corral.runner.handle import RunnerHandle, State
from corral.runner.rundir import RuntimeDir
from corral.runner.spec import LaunchOptions, RunnerInfo, RunnerMemory, RunnerSpec


class Runner(Protocol):
    """What the scheduler knows of a runner; RunnerHandle documents each member."""

    spec: RunnerSpec
    state: State
    closed: asyncio.Event
    exit_code: int | None
    info: RunnerInfo
    client: RunnerClient

    @property
    def pid(self) -> int | None:
        """The process while it lives."""

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of the engine's log."""

    async def start(self) -> None:
        """Spawn and wait until it serves; raises RunnerFailedToStart."""

    async def stop(self, grace_s: float = 5.0) -> None:
        """End it; returns when it is reaped."""

    def memory(self) -> RunnerMemory:
        """What it holds now."""


class Launcher(Protocol):
    """Makes runners; tests have a fake one."""

    def create(self, spec: RunnerSpec) -> Runner:
        """A runner that is not started yet."""

    def close(self) -> None:
        """Called once, after the last runner is gone."""


class LocalLauncher:
    """Runners as child processes of this one."""

    def __init__(self, settings: Settings) -> None:
        environ = runner_environment()
        self._runtime = RuntimeDir(Path(environ["XDG_RUNTIME_DIR"]) if "XDG_RUNTIME_DIR" in environ else None)
        kv_dir = settings.home / "kv"
        kv_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._options = LaunchOptions(
            dir=self._runtime.path,
            sandbox=settings.sandbox,
            hang_timeout_s=settings.hang_timeout_s,
            load_timeout_s=settings.load_timeout_s,
            llama_server=settings.llama_server,
            environ=environ,
            kv_dir=kv_dir,
            verbose=settings.debug > 1,
        )

    def create(self, spec: RunnerSpec) -> RunnerHandle:
        """A runner that is not started yet, with a directory name of its own."""
        return RunnerHandle(spec, replace(self._options, dir=self._runtime.next()))

    def close(self) -> None:
        """Remove the runtime directory."""
        self._runtime.close()
