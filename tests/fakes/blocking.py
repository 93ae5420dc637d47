"""The guard of the event loop: in tests that run on one, a blocking call made by Corral raises BlockingError.

A call counts as Corral's when one of its coroutines, or a callback of its, is running. Synchronous code of Corral's
that a test calls straight away (to fill a store, to look into it) may block. CPU work such as hashing is not seen.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster

import corral

_CORRAL = str(Path(corral.__file__).parent)
_TESTS = str(Path(__file__).parents[1])
_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
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
        yield
    finally:
        guard.deactivate()


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
