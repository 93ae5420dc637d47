"""Asking once more when a runner turns out to be gone through no fault of the request. Called by service.py.

The death of an idle runner is noticed milliseconds after it, and a request may be granted it in between; or its machine
is lost. Nothing has been answered then, and a fresh runner can serve the same request. Streams: running/resuming.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from corral.errors import NodeGone, RunnerGone

T = TypeVar("T")


async def again(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives; it is called a second time when the first met a dead runner or its machine was lost."""
    try:
        return await work()
    except (RunnerGone, NodeGone):
        return await work()
