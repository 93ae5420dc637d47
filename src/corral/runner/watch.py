"""Notices an engine that hangs: calls are in flight, yet nothing moves. Owned by handle.py, one per runner.

A call moves when an event of its answer comes. The engine moves when /slots changes (tokens read or made). What else
the engine does is judged by three things: whether /slots is answered, whether a slot is at work, and CPU time.

| /slots     | CPU  | what it is                                           | allowed for                             |
|------------|------|------------------------------------------------------|-----------------------------------------|
| a slot works | used | one step over a large batch, or an image           | `_COMPUTE_FACTOR` deadlines             |
| none works   | used | a request is being read: template, schema, grammar | PARSE_S, and longer for a long request  |
| silent       | used | the main loop is stuck between steps               | as a request that is being read         |
| any          | none | stopped, or a deadlock                             | one deadline                            |

While other calls go on, a request can still be stuck in the engine's parser: it is, when fewer slots work than calls
are due one although slots are free. Slots are given out between steps only, so a call that had been read when the
last step ended has one; what became of it during a long step, nobody can tell. An external engine may answer /slots
only between its steps; there, silence counts as a step.
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
from corral.runner.calls import Call
from corral.runner.client import RunnerClient
from corral.runner.usage import read_usage

PARSE_S = 5.0  # for reading a request of no great length
_PARSE_BYTES_PER_S = 50_000  # and for each byte of it: templates and tokenizers of slow engines on slow hosts
_COMPUTE_FACTOR = 10
_PROBE_S = 2.0  # for one answer of /slots, at most a quarter of the deadline
_LOOK_S = 1.0  # between two looks, at most a quarter of the deadline
_BUSY_SHARE = 0.05  # CPU seconds per second that count as computing
_STRAY_SHARE = 0.5  # the same, of an engine that has nothing to do
_STUCK_SHARE = 0.4  # of the time allowed, which a parser must have computed: on a busy host it gets less
_SHARED_PATIENCE = 1.5  # while others compute, which takes from a parser too
_SUSPICIOUS_BYTES = 128 * 2**20  # grown by so much, a request is no ordinary one
_SILENCE_S = 1.5


class Watchdog:
    """Calls `hung` once, with the seconds that were allowed, when the engine has made no progress for so long."""

    def __init__(
        self,
        client: RunnerClient,
        pid: int,
        deadline_s: float,
        hung: Callable[[float], None],
        *,
        answers_in_steps: bool = True,
    ) -> None:
        self._client = client
        self._calls = client.calls
        self._pid = pid
        self._deadline_s = deadline_s
        self._hung = hung
        self._answers_in_steps = answers_in_steps
        self._busy = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if not math.isinf(deadline_s):
            self._calls.on_busy = self._busy.set
            self._task = asyncio.create_task(self._watch(), name=f"watchdog of {pid}")

    def close(self) -> None:
        """Stop watching."""
        self._calls.on_busy = None
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while True:
            await self._busy.wait()
            self._busy.clear()
            allowed_s = await self._follow() or await self._follow_strays()
            if allowed_s:
                self._hung(allowed_s)
                return

    async def _follow(self) -> float:
        """Follow one busy stretch; what was allowed when it came to a standstill, 0 when the engine went idle."""
        stretch = Stretch(self._deadline_s, await self._look(), answers_in_steps=self._answers_in_steps)
        while self._calls:
            before = self._calls.last_progress
            await asyncio.sleep(self._pause_s)
            oldest = self._calls.oldest_unanswered
            if oldest is None and self._calls.last_progress > before:
                continue  # all is well, and looking would only cost
            look, since = await self._look(), stretch.last.at
            allowed_s = stretch.judge(look, self._calls.last_progress, self._calls.wanting(since), oldest)
            if allowed_s and self._calls:
                return allowed_s
        return 0.0

    async def _follow_strays(self) -> float:
        """The engine has nothing to do: what it goes on computing is for clients that have left, and it cannot be told.

        As `_follow`; ends when it rests, or is called again.
        """
        began = last = await self._look()
        while not self._calls:
            await asyncio.sleep(self._pause_s)
            look = await self._look()
            if last.cpu_share(look) < _STRAY_SHARE:
                break
            allowed_s = self._deadline_s * (_COMPUTE_FACTOR if look.working else 1)  # a step ends before it is left
            if look.at - began.at >= allowed_s:
                return allowed_s
            last = look
        return 0.0

    @property
    def _pause_s(self) -> float:
        return min(_LOOK_S, self._deadline_s / 4)

    async def _look(self) -> Look:
        slots = None
        with contextlib.suppress(CorralError, TimeoutError):
            slots = await self._client.probe(min(_PROBE_S, self._deadline_s / 4))
        cpu_s, held_bytes = await run_blocking(_effort, self._pid)
        at = time.monotonic()
        if slots is None:
            return Look(at, cpu_s, held_bytes)
        state = tuple(
            (slot.get("id_task"), slot.get("n_prompt_tokens_processed"), bytes(slot.get("next_token", b"")))
            for slot in slots
        )
        return Look(at, cpu_s, held_bytes, state, sum(slot["is_processing"] for slot in slots), len(slots))


@dataclass(frozen=True, slots=True)
class Look:
    """What could be seen of the engine at one moment; state (of its slots) is None when it gave no answer."""

    at: float
    cpu_s: float
    held_bytes: int = 0
    state: tuple[object, ...] | None = None
    working: int = 0
    slots: int = 0

    def cpu_share(self, later: Look) -> float:
        """How many cores were used between two looks."""
        return (later.cpu_s - self.cpu_s) / max(1e-6, later.at - self.at)


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A call whose request is being read, and how the engine was when that began."""

    call: Call
    since: float
    then: Look


class Stretch:
    """One time of being busy, judged look by look. Pure."""

    def __init__(self, deadline_s: float, first: Look, *, answers_in_steps: bool = True) -> None:
        self.last = first
        self._deadline_s = deadline_s
        self._answers_in_steps = answers_in_steps
        self._state = first.state
        self._moved = self._alive = first.at  # when something was done for somebody; when it was at least tried
        self._stepped = first.at  # when a step was last seen to have ended
        self._suspect: _Suspect | None = None

    def judge(self, look: Look, last_progress: float, wanting: int, oldest: Call | None) -> float:
        """The seconds that were allowed, when they are over; else 0.

        wanting: how many calls are due a slot. oldest: of those without an answer.
        """
        before, self.last, stepped = self.last, look, self._stepped
        if look.state is not None and look.state != self._state:
            self._state, self._moved, self._stepped = look.state, look.at, look.at
        self._moved = max(self._moved, last_progress)
        self._note_suspect(before, look, wanting, oldest)
        if self._suspect is not None:
            allowed_s = self._allowed_s(self._suspect.call)
            if self._is_stuck(self._suspect, look, allowed_s, stepped):
                return allowed_s
        may_compute = self._suspect is not None and look.at - self._suspect.since < self._allowed_s(self._suspect.call)
        if self._is_in_a_step(look):
            may_compute = look.at - self._moved < self._deadline_s * _COMPUTE_FACTOR
        if may_compute and before.cpu_share(look) > _BUSY_SHARE:
            self._alive = look.at
        is_over = look.at - max(self._alive, self._moved) >= self._deadline_s
        return self._deadline_s if is_over else 0.0

    def _note_suspect(self, before: Look, look: Look, wanting: int, oldest: Call | None) -> None:
        if oldest is None or not self._may_be_read(look, wanting, oldest):
            self._suspect = None
        elif self._suspect is None or self._suspect.call is not oldest:
            self._suspect = _Suspect(oldest, max(oldest.started, before.at), before)

    def _may_be_read(self, look: Look, wanting: int, oldest: Call) -> bool:
        """Whether a call without an answer is still before its turn in a slot, or its turn does not come about."""
        if not oldest.seeks_slot:
            return True
        if look.state is None:
            return self._answers_in_steps and self._moved < look.at - _SILENCE_S
        return look.working < min(look.slots, wanting)

    def _allowed_s(self, call: Call) -> float:
        return min(PARSE_S, self._deadline_s) + call.size_bytes / _PARSE_BYTES_PER_S

    def _is_stuck(self, suspect: _Suspect, look: Look, allowed_s: float, stepped: float) -> bool:
        """stepped: when a step had ended, as seen before this look: by now its end has had its effect."""
        waits_for_step = look.working > 0 and suspect.call.seeks_slot
        elapsed_s = (stepped if waits_for_step else look.at) - suspect.since
        if elapsed_s < allowed_s:
            return False
        if look.held_bytes - suspect.then.held_bytes > _SUSPICIOUS_BYTES:
            return True
        # what others' slots compute cannot be told from what the parser does
        patience = 1 if not look.working else _SHARED_PATIENCE
        computed_s = look.cpu_s - suspect.then.cpu_s
        return elapsed_s >= allowed_s * patience and computed_s >= allowed_s * _STUCK_SHARE

    def _is_in_a_step(self, look: Look) -> bool:
        """Whether a batch or an image is its work now, which nothing tells of until it is done."""
        return look.working > 0 if look.state is not None else not self._answers_in_steps


def _effort(pid: int) -> tuple[float, int]:
    """(CPU seconds, bytes held) of a process; zeros where there is no /proc. Source: proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0, 0
    fields = text.rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / 100  # USER_HZ is 100 on every Linux
    return cpu_s, read_usage(pid, alone=True).held_bytes
