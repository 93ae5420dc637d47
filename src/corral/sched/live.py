"""One runner's life as a task: start, ready, until it is told to stop or dies; always reaped before the last event.

`scheduler.py` makes one `LiveRunner` per Load action. The runner itself, and where it comes
from, are protocols of `launch.py`.

| phase    | ends by           | event      |
|----------|-------------------|------------|
| starting | its files are translated, a little further | Translating, many times |
|          | ready             | Loaded     |
|          | error             | LoadFailed |
|          | stop()            | Stopped    |
| ready    | process gone      | Died       |
|          | stop()            | Stopped    |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from corral.errors import CorralError, RunnerFailedToStart
from corral.runner.slotcopies import SlotCopies
from corral.runner.slothold import SlotHold
from corral.runner.slots import SOURCES, SlotTable
from corral.runner.spec import RunnerSpec
from corral.sched.events import Died, Event, Loaded, LoadFailed, Stopped, Translating
from corral.sched.launch import Conversations, Handle

log = logging.getLogger(__name__)
_SAVE_DEADLINE_S = 20.0


class LiveRunner:
    """Drives one runner handle. slots: what is in them, once it is ready. separate: told apart by owner."""

    def __init__(
        self,
        runner_id: int,
        handle: Handle,
        spec: RunnerSpec,
        conversations: Conversations | None,
        post: Callable[[Event], None],
        *,
        separate: bool = False,
    ) -> None:
        self.id = runner_id
        self.handle = handle
        self._spec = spec
        self._conversations = conversations
        self._post = post
        self._separate = separate
        self.slots: SlotTable | None = None
        self.copies = SlotCopies("")
        self.granted = False  # whether a request has had it already
        self._task: asyncio.Task[None] | None = None
        self._saves = False  # ready and well: its conversations are worth saving
        self._leaving = False

    def begin(self) -> asyncio.Task[None]:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name=f"runner-{self.id}")
        return self._task

    def hold(self, owner: str) -> SlotHold | None:
        """One lease's share in the slots."""
        return None if self.slots is None else SlotHold(self.slots, owner, self.copies)

    def prompts(self) -> dict[str, float]:
        """Tokens of the prompts so far, by where they came from, and the copies made; empty before it is ready."""
        if self.slots is None:
            return {}
        return {name: self.slots.tokens[name] for name in SOURCES} | self.copies.told()

    def stop(self, *, save: bool) -> None:
        """Ask it to go; the answer is the event Stopped. No effect once it is going. save: keep its conversations."""
        if not self._leaving and self._task is not None:
            self._saves = self._saves and save
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
            await self.handle.start(self._translating)
            count = self.handle.info.slots
            self.slots = SlotTable(count, separate=self._separate)
            self.copies = SlotCopies(self.handle.info.slot_copy, has_store=not self._separate)
            if self._conversations is not None:
                await self._conversations.restore(self.handle.client, self._spec, count, self.slots)
        except CorralError as error:
            starved = isinstance(error, RunnerFailedToStart) and error.out_of_memory
            return LoadFailed(self.id, error, starved)
        except Exception as error:
            log.exception("runner %d could not be started", self.id)
            why = error.strerror if isinstance(error, OSError) else None  # its text would name a path
            return LoadFailed(self.id, RunnerFailedToStart(f"error starting the runner: {why or 'see the server log'}"))
        self._saves = True
        info = self.handle.info
        memory = info.memory
        measured = memory.weights_bytes + memory.kv_cache_bytes + memory.compute_bytes
        held = max(measured, memory.anonymous_bytes)
        self._post(Loaded(self.id, info.slots, info.context_window, held, info.device_error))
        await self.handle.closed.wait()
        return Died(self.id, self.handle.failure)

    def _translating(self, processed: int, total: int) -> None:
        self._post(Translating(self.id, processed, total))

    async def _leave(self, outcome: Event) -> None:
        """Nothing here may fail or hang: the runner's place is given away when this returns."""
        try:
            if self._conversations is not None and self._saves and isinstance(outcome, Stopped):
                async with asyncio.timeout(_SAVE_DEADLINE_S):
                    await self._conversations.save(self.handle.client, self._spec, self.slots)
        except Exception:
            log.warning("runner %d: its conversations are lost", self.id, exc_info=True)
        try:
            await self.handle.stop()
        except Exception:
            log.exception("runner %d: stopping failed", self.id)
