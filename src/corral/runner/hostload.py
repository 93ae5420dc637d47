"""How many cores this process may use, and how many of them others keep busy. Used by tune.py and sched/hostmemory.py.

The load average cannot tell our own answers from the work of others, and remembers for a minute. So the kernel's times
per core are compared with those of this process and its children; the rest is others' work, and time that a hypervisor
gave to another guest counts as theirs. Linux; elsewhere nobody else is seen.

What counts is others' work while we answer: an agent that runs its tests and then asks the model is busy until it asks.
So whoever watches (server/renewal.py) calls `sample` while requests are being served, and `pause` when none is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from corral.aio import run_blocking

_WINDOW_S = 30.0  # so much serving is remembered
_ENOUGH_S = 10.0  # and so much needed to say anything
_STALE_S = 600.0
_SHORTEST_S = 0.2  # the kernel counts in hundredths of a second: over less, nothing can be said
_MOMENT_S = 1.0
_BUSY_CORES = 0.5
_BUSY_FIELDS = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal; guests are counted in user


class _Sample(NamedTuple):
    """Seconds: since some start, of work on the usable cores since boot, and what of it was ours."""

    at: float
    busy: float
    own: float

    def others_since(self, before: _Sample) -> float:
        """Seconds of others' work between the two."""
        return max(0.0, (self.busy - before.busy) - (self.own - before.own))


class _Stretch(NamedTuple):
    """A time during which we served, which ended at `until`; seconds, and seconds of others' work."""

    until: float
    lasted: float
    others: float


class HostLoad:
    """Others' share of the cores. root: where / is, clock: seconds that never go back (tests have their own)."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = root / "proc"
        self._clock = clock
        self._cores = _affinity()
        self._usable = usable_cores()
        self._last: _Sample | None = None
        self._stretches: deque[_Stretch] = deque()  # bounded by the window and the shortest of them

    def sample(self) -> None:
        """Requests are being served, and were since the last call; blocking, for a fraction of a millisecond."""
        now, last = self._read(), self._last
        if now is None or (last is not None and now.at - last.at < _SHORTEST_S):
            return
        self._last = now
        if last is None:
            return
        self._stretches.append(_Stretch(now.at, now.at - last.at, now.others_since(last)))
        while self._served_s() - self._stretches[0].lasted >= _WINDOW_S:
            self._stretches.popleft()

    def pause(self) -> None:
        """No request is being served: what others do until the next `sample` does not count."""
        self._last = None

    def others(self) -> float:
        """Cores' worth of others' work while we served lately; 0 when too little is known."""
        served = self._served_s()
        if served < _ENOUGH_S or self._stretches[-1].until < self._clock() - _STALE_S:
            return 0.0
        return sum(stretch.others for stretch in self._stretches) / served

    def free_cores(self) -> int:
        """Cores that others leave to us: at least half of the usable ones, since the kernel shares fairly."""
        return min(self._usable, max(1, self._usable // 2, round(len(self._cores) - self.others())))

    async def is_busy(self) -> bool:
        """Whether others work right now, so that what is measured says little of a quiet host; takes a second."""
        before = await run_blocking(self._read)
        await asyncio.sleep(_MOMENT_S)
        after = await run_blocking(self._read)
        if before is None or after is None:
            return False
        return after.others_since(before) >= _BUSY_CORES * (after.at - before.at)

    def _served_s(self) -> float:
        return sum(stretch.lasted for stretch in self._stretches)

    def _read(self) -> _Sample | None:
        """None = this host does not tell."""
        try:
            return _Sample(self._clock(), self._busy_s(), self._own_s())
        except (OSError, ValueError, IndexError):
            return None

    def _busy_s(self) -> float:
        cores = {f"cpu{number}" for number in self._cores}
        ticks = 0
        for line in (self._proc / "stat").read_text().splitlines():
            name, *fields = line.split()
            if name in cores:
                ticks += sum(int(fields[number]) for number in _BUSY_FIELDS)
        return ticks / os.sysconf("SC_CLK_TCK")

    def _own_s(self) -> float:
        """Of this process and its children, living and reaped."""
        ticks = 0
        lists = list((self._proc / "self/task").glob("*/children"))
        if not lists:
            raise FileNotFoundError("a kernel that does not list children")
        for children in lists:
            for pid in children.read_text().split():
                with contextlib.suppress(OSError):  # it has just been reaped
                    after_name = (self._proc / pid / "stat").read_text().rpartition(")")[2].split()
                    ticks += int(after_name[11]) + int(after_name[12])  # utime, stime
        return ticks / os.sysconf("SC_CLK_TCK") + sum(os.times()[:4])


def usable_cores() -> int:
    """Cores that this process may run on, a container's CPU quota included."""
    cores = len(_affinity())
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return max(1, cores)


def _affinity() -> frozenset[int]:
    """Numbers of the cores that the scheduler may put us on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))
