"""Loading a model anew, while nobody wants it, when the host or what is known of it has changed since its load.

A runner keeps the number of threads it was launched with. One launched on a quiet host has too many for the hours of a
batch job, one launched during the job too few afterwards, and what an idle measurement found (tuning.py) holds for the
next launch only. So the host is watched while requests are served, and when none is, each runner on the CPU is compared
with how the launcher would launch it now. It is loaded anew when nobody has wanted it for a while, and only so often
that loading takes a small part of its time. Its conversations are saved and restored as at any reload, and it expires
when it would have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Protocol

from corral.aio import run_blocking
from corral.runner.hostload import HostLoad
from corral.runner.spec import RunnerSpec
from corral.sched import LoadedModel, Scheduler

log = logging.getLogger(__name__)
SAMPLE_S = 0.5
IDLE_S = 5.0  # a person may be reading the answer
_LOADS_OF_AGE = 30.0  # a runner lives at least so many times its load before it is loaded anew


class FollowingLauncher(Protocol):
    """A launcher whose settings follow the host; runner.launch.LocalLauncher is one."""

    host_load: HostLoad

    def outdated(self, spec: RunnerSpec, launched: RunnerSpec) -> bool:
        """Whether this plan would now be launched clearly otherwise than it was."""
        ...


class Renewal:
    """Watches the host and the idle runners."""

    def __init__(self, launcher: FollowingLauncher, scheduler: Scheduler) -> None:
        self._launcher = launcher
        self._scheduler = scheduler

    async def run(self) -> None:
        """Until cancelled."""
        load = self._launcher.host_load
        while True:
            while self._scheduler.requests():
                await run_blocking(load.sample)
                await asyncio.sleep(SAMPLE_S)
            load.pause()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._scheduler.next_request()
                await asyncio.sleep(SAMPLE_S)  # it is in no list yet
                continue
            for row in self._scheduler.loaded():
                if self._is_outdated(row) and is_due(row):
                    log.info("loading %s anew: the host has changed since its load", row.name)
                    await self._scheduler.renew(row.runner_id)

    def _is_outdated(self, row: LoadedModel) -> bool:
        """On a GPU threads decide nothing, so only models that run on the CPU count."""
        if row.spec is None or row.launched is None or row.size_vram_bytes:
            return False
        return self._launcher.outdated(row.spec, row.launched)


def is_due(row: LoadedModel) -> bool:
    """Whether a runner can be loaded anew without costing anybody anything."""
    rested = row.state == "ready" and row.active == 0 and row.idle_s >= max(IDLE_S, row.load_s)
    return rested and row.age_s >= _LOADS_OF_AGE * row.load_s
