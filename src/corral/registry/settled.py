"""`run_settled`: blocking work that is over when the call returns, cancelled or not. For work on open files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from corral.aio import run_blocking

P = ParamSpec("P")
T = TypeVar("T")


async def run_settled(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` on the executor; a cancellation is passed on only after it has finished.

    Plain `run_blocking` leaves a cancelled function running: it would write to a file that its owner has closed.
    """
    work = asyncio.ensure_future(run_blocking(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:
                continue  # asked again; the first cancellation is passed on below
        if not work.cancelled():
            work.exception()  # looked at, so that asyncio does not report it; the cancellation outranks it
        raise
