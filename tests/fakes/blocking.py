"""The guard of the event loop: in tests that run on one, a blocking call made by Corral raises BlockingError, and a
step of the loop that computes for longer than LONGEST_STEP_S fails the test.

A call counts as Corral's when one of its coroutines, or a callback of its, is running. Synchronous code of Corral's
that a test calls straight away (to fill a store, to look into it) may block. Computing is measured in the loop's own
processor time, so that a busy host changes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from blockbuster import BlockBuster

import corral

_CORRAL = str(Path(corral.__file__).parent)
_TESTS = str(Path(__file__).parents[1])
_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
LONGEST_STEP_S = 0.1  # what reliability.md promises: /api/version answers within it, whatever else is asked
_LOGGING = str(Path(inspect.getfile(inspect)).parent / "logging")  # standard error is allowed to block


@contextmanager
def guarded_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing in corral blocks the loop while this is open; a test that is no coroutine has no loop to guard."""
    if not inspect.iscoroutinefunction(request.function):
        yield
        return
    guard = BlockBuster()
    for blocking in guard.functions.values():
        blocking.can_block_predicate = _unless_corrals(blocking.can_block_predicate)
    guard.activate()
    try:
        with measured_steps() as steps:
            yield
    finally:
        guard.deactivate()
    assert steps.longest_s < 5 * LONGEST_STEP_S, f"the loop computed for {steps.longest_s:.2f} s in {steps.where}"


@dataclass
class Steps:
    """The longest step of a loop so far, in seconds of its thread's processor time, and what it was."""

    longest_s: float = 0.0
    where: str = ""


@contextmanager
def measured_steps() -> Iterator[Steps]:
    """Measures the steps of tasks in Corral's code on asyncio's loops (not uvloop's) while this is open."""
    steps, handles = Steps(), cast("Any", asyncio.Handle)
    run = handles._run

    def measured(handle: Any) -> None:
        begin = time.thread_time()
        run(handle)
        taken = time.thread_time() - begin
        where = _where(handle)
        if taken > steps.longest_s and _CORRAL in where:
            steps.longest_s, steps.where = taken, where

    handles._run = measured
    gc.disable()  # a collection of all that the tests hold would count as a step
    try:
        yield steps
    finally:
        gc.enable()
        handles._run = run


def _where(handle: Any) -> str:
    """The innermost coroutine of a step's task, as file and line; else the callback."""
    task = getattr(handle._callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return repr(handle)
    inner: Any = task.get_coro()
    names = []
    while inner is not None:
        code = getattr(inner, "cr_code", None) or getattr(inner, "ag_code", None) or getattr(inner, "gi_code", None)
        if code is not None:
            names.append(f"{code.co_filename}:{code.co_name}")
        inner = (
            getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None) or getattr(inner, "gi_yieldfrom", None)
        )
    return " > ".join(names)


def _unless_corrals(allowed: Callable[..., bool]) -> Callable[..., bool]:
    return lambda *args, **kwargs: allowed(*args, **kwargs) or not _is_corrals_call()


def _is_corrals_call() -> bool:
    """Walks the stack outwards: the first coroutine of Corral's, or the first frame of a test, decides."""
    seen_corral = False
    frame: Any = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_LOGGING):
            return False
        if code.co_filename.startswith(_CORRAL):
            seen_corral = True
            if code.co_flags & _COROUTINE:
                return True
        elif code.co_filename.startswith(_TESTS) and code.co_filename != __file__:
            return False
        frame = frame.f_back
    return seen_corral
