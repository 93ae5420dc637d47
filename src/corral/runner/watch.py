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
        seen, seen_cpu_s = await self._look()
        moved = computed = time.monotonic()
        while self._client.in_flight:
            moved = max(moved, self._client.last_progress)
            computed = max(computed, moved)
            left_s = max(moved, computed) + self._deadline_s - time.monotonic()
            if left_s <= 0:
                return True
            await asyncio.sleep(min(left_s, self._deadline_s / 2))
            if self._client.last_progress > moved:
                continue
            now, cpu_s = await self._look()
            elapsed_s = time.monotonic() - moved
            if now is not None and now != seen:
                seen, moved = now, time.monotonic()
            elif cpu_s - seen_cpu_s > elapsed_s * _BUSY_SHARE and elapsed_s < self._deadline_s * _COMPUTE_FACTOR:
                computed = time.monotonic()
            seen_cpu_s = cpu_s
        return False

    async def _look(self) -> tuple[object, float]:
        """(tokens read and made by each slot, or None without an answer; CPU seconds used so far)."""
        slots: object = None
        with contextlib.suppress(CorralError, TimeoutError):
            answer = await self._client.probe(self._deadline_s * _PROBE_SHARE)
            slots = [
                (slot.get("id_task"), slot.get("n_prompt_tokens_processed"), slot.get("next_token")) for slot in answer
            ]
        return slots, await run_blocking(_cpu_seconds, self._pid)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process in seconds; 0.0 where there is no /proc. Source: proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100  # USER_HZ is 100 on every Linux
