"""Notices an engine that hangs: busy, yet nothing moves. Owned by handle.py, one per runner.

Progress is, cheapest first: an event on any answer; a change in /slots (tokens read or made); CPU time used. The last
one alone counts for at most `_COMPUTE_FACTOR` deadlines: one step over a large batch moves nothing else, but an
endless loop burns CPU too. A stopped or deadlocked process uses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corral.aio import run_blocking
from corral.errors import CorralError
from corral.runner.client import RunnerClient

_COMPUTE_FACTOR = 10
_PROBE_SHARE = 0.25  # of the deadline, for one answer of /slots
_BUSY_SHARE = 0.05  # CPU seconds per second that count as computing


class Watchdog:
    """Calls `hung` once when the engine has made no progress for `deadline_s` while calls were in flight."""

    def __init__(self, client: RunnerClient, pid: int, deadline_s: float, hung: Callable[[], None]) -> None:
        self._client = client
        self._pid = pid
        self._deadline_s = deadline_s
        self._hung = hung
        self._busy = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if not math.isinf(deadline_s):
            client.on_busy = self._busy.set
            self._task = asyncio.create_task(self._watch(), name=f"watchdog of {pid}")

    def close(self) -> None:
        """Stop watching."""
        self._client.on_busy = None
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while True:
            await self._busy.wait()
            self._busy.clear()
            if await self._stuck():
                self._hung()
                return

    async def _stuck(self) -> bool:
        """Follow one busy stretch; True when it came to a standstill, False when the engine went idle."""
        last = await self._look()
        moved = alive = last.at
        while self._client.in_flight:
            await asyncio.sleep(self._deadline_s / 2)
            if self._client.last_progress > moved:
                moved = alive = self._client.last_progress
                continue
            look = await self._look()
            if look.slots is not None and look.slots != last.slots:
                moved = alive = look.at
            elif last.computing(look) and look.at - moved < self._deadline_s * _COMPUTE_FACTOR:
                alive = look.at
            elif look.at - max(alive, self._client.last_progress) >= self._deadline_s and self._client.in_flight:
                return True
            last = look
        return False

    async def _look(self) -> _Look:
        slots: list[object] | None = None
        with contextlib.suppress(CorralError, TimeoutError):
            answer = await self._client.probe(self._deadline_s * _PROBE_SHARE)
            slots = [
                (slot.get("id_task"), slot.get("n_prompt_tokens_processed"), slot.get("next_token")) for slot in answer
            ]
        return _Look(time.monotonic(), slots, await run_blocking(_cpu_seconds, self._pid))


@dataclass(frozen=True, slots=True)
class _Look:
    """What could be seen of the engine at one moment; slots are None when it gave no answer."""

    at: float
    slots: list[object] | None
    cpu_s: float

    def computing(self, later: _Look) -> bool:
        """Whether it used the CPU between two looks."""
        return later.cpu_s - self.cpu_s > (later.at - self.at) * _BUSY_SHARE


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process in seconds; 0.0 where there is no /proc. Source: proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100  # USER_HZ is 100 on every Linux
