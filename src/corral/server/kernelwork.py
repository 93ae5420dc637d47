"""Making kernels for this processor while nobody wants anything: once, niced, where a C++ compiler is. Run by serve.py.

Fetching the engine's sources is the one thing that an idle server asks the network for; `CORRAL_KERNELS=off` turns it
off. A failure is told in the log and not tried again until the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import Protocol

from corral.aio import run_blocking
from corral.config import Settings
from corral.kernels.build import find_compiler
from corral.runner.kernels import pack_folder, read_pack
from corral.runner.processor import beyond_the_wheel, features
from corral.sched import Scheduler

log = logging.getLogger(__name__)
IDLE_S = 300.0


class KernelLauncher(Protocol):
    """A launcher that can use a pack; runner.launch.LocalLauncher is one."""

    def look_for_kernels(self) -> None:
        """Use a pack that is there by now."""
        ...


def is_wanted(settings: Settings) -> bool:
    """Whether this server should make kernels: nobody forbids it, they would be better, and it can. Reads the disk."""
    allowed = settings.kernels != "off" and not settings.llama_server
    better = bool(beyond_the_wheel(features()))
    return allowed and better and read_pack(pack_folder(settings.home)) is None and find_compiler() is not None


async def make_when_idle(settings: Settings, scheduler: Scheduler, launcher: KernelLauncher) -> None:
    """Wait until nobody has wanted anything for IDLE_S, then make them; returns when done or not wanted."""
    if not await run_blocking(is_wanted, settings):
        return
    while not await _is_quiet(scheduler):
        pass
    log.info("making kernels for this processor, niced; CORRAL_KERNELS=off turns this off")
    if await _make(settings) == 0:
        await run_blocking(launcher.look_for_kernels)


async def _make(settings: Settings) -> int:
    """Run the build as a child (kernels/worker.py); its exit status. It ends with us, also when we are cancelled."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "corral.kernels.worker", str(settings.home.absolute())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    assert child.stdout is not None
    try:
        async for line in child.stdout:
            log.info("%s", line.decode(errors="replace").strip())
        return await child.wait()
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


async def _is_quiet(scheduler: Scheduler) -> bool:
    """Whether no request came for IDLE_S."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(IDLE_S):
            await scheduler.next_request()
        return False
    return not scheduler.requests()
