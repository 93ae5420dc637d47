"""Slots copied to one another inside a runner: what one has read, the other need not read.

The engine writes a slot's cells to a file and reads them into another slot, which takes milliseconds where the prompt
takes seconds. It does both between two steps, and not before the slot's call has ended. What is copied stays with its
owner. Used by slothold.py, one `SlotCopies` per runner.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from corral.errors import CorralError
from corral.runner.promptforms import size
from corral.runner.slots import WORTH_COPYING_BYTES, Slot

if TYPE_CHECKING:
    from corral.runner.client import RunnerClient
    from corral.runner.slothold import SlotHold

_LOG = logging.getLogger(__name__)
_MOST_FAILURES = 3  # in a row; then this runner cannot, and is not asked again

PromptTokens = Callable[[], Awaitable[Sequence[int] | None]]  # a prompt as the engine reads it; None = not known
Target = tuple[Slot, PromptTokens]  # a slot, and the prompt that it is for


class SlotCopies:
    """file: the one in the runner's folder of slots; "" = there is none, and nothing is copied.

    has_store: the engine keeps conversations that lose their slot. readers: the requests that read their prompts, in
    the order in which they came. Counted: copies made, and the seconds they took.
    """

    def __init__(self, file: str, *, has_store: bool = False) -> None:
        self._file = file
        self._has_store = has_store
        self._failures = 0
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[bool]] = set()
        self.readers: list[SlotHold] = []
        self.count = 0
        self.seconds = 0.0

    def told(self) -> dict[str, float]:
        """For `ps`: how many copies were made, and the seconds they took."""
        return {"copies": self.count, "copy_seconds": round(self.seconds, 3)}

    @property
    def possible(self) -> bool:
        """Whether it is worth trying."""
        return bool(self._file) and self._failures < _MOST_FAILURES

    def start(self, client: RunnerClient, source: Slot, targets: Sequence[Target]) -> asyncio.Task[bool]:
        """Copy a slot to others; whether it was done. The caller keeps all of them busy until the task has ended.

        The task goes on when the caller is cancelled: the engine would do later what it was asked, and a slot must not
        change hands in between.
        """
        task = asyncio.create_task(self._copy(client, source, targets))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _copy(self, client: RunnerClient, source: Slot, targets: Sequence[Target]) -> bool:
        async with self._one_at_a_time:
            began = time.perf_counter()
            try:
                await client.save_slot(source.id, self._file)
                for target, tokens in targets:
                    await self._put_by(client, target, tokens)
                    target.owner, target.prompt = "", {}
                    await client.restore_slot(target.id, self._file)
                    target.owner, target.prompt, target.is_saved = source.owner, source.prompt, False
                    self.count += 1
            except CorralError as error:  # an image in the prompt, a full disk, a runner that is gone
                self._failures += 1
                _LOG.debug("slot %d was not copied: %s", source.id, error)
                return False
            finally:
                self.seconds += time.perf_counter() - began
            self._failures = 0
            return True

    async def _put_by(self, client: RunnerClient, slot: Slot, tokens: PromptTokens) -> None:
        """Have the engine keep in its store what a slot holds, which it does when a call goes on with little of it."""
        if not self._has_store or size(slot.prompt) < WORTH_COPYING_BYTES:
            return
        first = list(await tokens() or ())[:1]
        if first:
            await client.hold_only(slot.id, first[0], keeping=True)
