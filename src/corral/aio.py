"""The executors, so that the event loop never waits: one for blocking work (disk, hashing), two for computing.

Computing (templates, grammars) holds the interpreter, so its threads are few: more would only slow the loop down.
Large texts have a thread of their own, where they wait for one another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_EXECUTOR = ThreadPoolExecutor(max_workers=8, thread_name_prefix="corral-blocking")
_COMPUTING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="corral-computing")
_LARGE = ThreadPoolExecutor(max_workers=1, thread_name_prefix="corral-large")
LARGE_CHARACTERS = 2**18
_END = object()


async def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` on the executor. On cancellation the function runs to its end, unobserved; keep chunks short."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_EXECUTOR, lambda: function(*args, **kwargs))


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


async def run_computing(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a pure `function` that may take more than milliseconds; bounded, since a cancellation does not end it."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_COMPUTING, lambda: function(*args, **kwargs))


async def run_large(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for what is larger than LARGE_CHARACTERS: one at a time, and it keeps no small one waiting."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_LARGE, lambda: function(*args, **kwargs))


async def iterate_blocking(make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Drive a blocking generator on the executor, one step at a time; closes it when the caller stops early.

    A cancellation during a step waits for that step: a generator that runs cannot be closed. Keep steps short.
    """
    iterator = await run_blocking(make)
    step: asyncio.Future[T | object] | None = None
    try:
        while True:
            step = asyncio.ensure_future(run_blocking(next, iterator, _END))
            item = await asyncio.shield(step)
            if item is _END:
                return
            yield item  # type: ignore[misc]
    finally:
        if step is not None and not step.done():
            await asyncio.wait([step])
            if not step.cancelled():
                step.exception()  # taken, so that asyncio does not log it as lost
        close = getattr(iterator, "close", None)
        if close is not None:
            await run_blocking(close)
