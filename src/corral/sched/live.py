"""One runner's life as a task: start, ready, until it is told to stop or dies; always reaped before the last event.

`scheduler.py` makes one `LiveRunner` per Load action. The runner itself, and where it comes
from, are protocols of `launch.py`.

| phase    | ends by           | event      |
|----------|-------------------|------------|
| starting | ready             | Loaded     |
|          | error             | LoadFailed |
|          | stop()            | Stopped    |
| ready    | process gone      | Died       |
|          | stop()            | Stopped    |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from corral.errors import CorralError, RunnerDied, RunnerFailedToStart
from corral.sched.events import Died, Event, Loaded, LoadFailed, Stopped
from corral.sched.launch import Handle

log = logging.getLogger(__name__)
_HOOK_DEADLINE_S = 20.0


class LiveRunner:
    """Drives one runner handle."""

    def __init__(self, runner_id: int, handle: Handle, post: Callable[[Event], None]) -> None:
        self.id = runner_id
        self.handle = handle
        self._post = post
        self._task: asyncio.Task[None] | None = None
        self._ready = False
        self._leaving = False

    def begin(self) -> asyncio.Task[None]:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name=f"runner-{self.id}")
        return self._task

    def stop(self) -> None:
        """Ask it to go; the answer is the event Stopped. No effect once it is going."""
        if not self._leaving and self._task is not None:
            self._leaving = True
            self._task.cancel()

    async def _run(self) -> None:
        outcome: Event = Stopped(self.id)
        try:
            outcome = await self._live()
        except asyncio.CancelledError:
            if not self._leaving:
                raise  # the event loop is being torn down
        finally:
            self._leaving = True
            await self._leave(outcome)
            self._post(outcome)

    async def _live(self) -> Event:
        try:
            await self.handle.start()
            await self._call_hook("after_ready")
        except CorralError as error:
            return LoadFailed(self.id, error, bool(getattr(error, "out_of_memory", False)))
        except Exception as error:
            log.exception("runner %d could not be started", self.id)
            return LoadFailed(self.id, RunnerFailedToStart(f"error starting the runner: {error}"))
        self._ready = True
        info = self.handle.info
        memory = info.memory
        measured = memory.weights_bytes + memory.kv_cache_bytes + memory.compute_bytes
        self._post(Loaded(self.id, info.slots, info.context_window, max(measured, memory.anonymous_bytes)))
        await self.handle.closed.wait()
        return Died(self.id, RunnerDied(self.handle.exit_code, self.handle.last_lines))

    async def _leave(self, outcome: Event) -> None:
        """Nothing here may fail or hang: the runner's place is given away when this returns."""
        try:
            if self._ready and isinstance(outcome, Stopped):
                await self._call_hook("before_unload")
            await self.handle.stop()
        except Exception:
            log.exception("runner %d: stopping failed", self.id)

    async def _call_hook(self, name: str) -> None:
        """`after_ready` and `before_unload` of the handle, where it has them: saved chats. Failing is no harm."""
        hook = getattr(self.handle, name, None)
        if hook is None:
            return
        try:
            async with asyncio.timeout(_HOOK_DEADLINE_S):
                await hook()
        except Exception:
            log.warning("runner %d: %s failed", self.id, name, exc_info=True)
