"""A lease whose window holds the prompt, where nobody has named a window. Called by chat.py and generate.py.

What does not fit the runner that is loaded has the model loaded anew, once, with a window that model and memory plainly
allow (sched/growth.py); its conversations are kept, as at any unload. Else the callers cut or refuse as before.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from corral.aio import run_blocking
from corral.inference.preparing.leasing import Prepared, leased
from corral.inference.progress import Emit
from corral.inference.shared import Shared
from corral.sched.growth import fitting, room_for, windows_for
from corral.sched.memory import HostFigures
from corral.sched.plan import model_facts
from corral.sched.request import Lease

log = logging.getLogger(__name__)
Needs = Callable[[Lease], Awaitable[int]]


@asynccontextmanager
async def leased_for(
    shared: Shared, prepared: Prepared, needs: Needs, emit: Emit | None = None
) -> AsyncIterator[Lease]:
    """The runner for a prepared request, with a window that holds it if that may be.

    needs: tokens of window that the request wants of this lease, 0 = it fits; asked where nobody has named a window.
    Raises what `leased` does.
    """
    prepared = await _as_remembered(shared, prepared)
    async with leased(shared, prepared, emit) as lease:
        needed = await needs(lease) if _is_open(prepared) else 0
        wider = await _widened(shared, prepared, needed) if needed > lease.context_window else None
        if wider is None:
            yield lease
            return
    text = "%s is loaded anew: a prompt needs a window of %d tokens, and gets %d"
    log.info(text, prepared.model.name.short, needed, wider.window)
    async with leased(shared, wider, emit) as lease:
        yield lease


def _is_open(prepared: Prepared) -> bool:
    return "context_window" in prepared.launch.automatic


async def _as_remembered(shared: Shared, prepared: Prepared) -> Prepared:
    """The load with the window that a prompt needed before, unless there is a runner already."""
    key = str(prepared.model.weights)
    needed = shared.windows.of(key)
    stays = any(runner.key == key and runner.state != "stopping" for runner in shared.scheduler.loaded())
    if not needed or stays or not _is_open(prepared):
        return prepared
    return await _larger(shared, prepared, needed, await shared.scheduler.figures()) or prepared


async def _widened(shared: Shared, prepared: Prepared, needed: int) -> Prepared | None:
    wider = await _larger(shared, prepared, needed, await shared.scheduler.figures_now())
    if wider is None:
        return None
    shared.windows.remember(str(prepared.model.weights), needed)
    return replace(wider, least_window=wider.window)


async def _larger(shared: Shared, prepared: Prepared, needed: int, host: HostFigures) -> Prepared | None:
    """The same load with a window of at least so many tokens; None when model or memory do not plainly allow it."""
    room = room_for(str(prepared.model.weights), shared.scheduler.loaded(), host)
    facts = await run_blocking(model_facts, prepared.model)
    for window in windows_for(needed, facts.context_length):
        launch = fitting(await run_blocking(prepared.plan, window, host), room)
        if launch is not None and launch.memory.gpu_share >= prepared.launch.memory.gpu_share:
            return replace(prepared, launch=launch)
    return None
