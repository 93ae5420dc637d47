"""What the C library and the interpreter do with memory. Called once each, at the start of a server.

glibc keeps an arena a thread, and raises the size from which blocks get pages of their own each time that one is freed;
after some large requests a server would keep several times what it uses. Python counts objects, not bytes, before it
looks for cycles: an error that holds a text of many megabytes would stay until thousands of small things are made.
"""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
# The pieces of an upload or a download are smaller than this; new pages for each of them would halve its speed.
_OWN_PAGES_FROM = 2 * 2**20
_KEPT_BYTES = 4 * 2**20  # at the end of the heap
_ARENAS = 2


def give_memory_back() -> None:
    """Few arenas; what is freed of large blocks goes back to the system at once."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (
            (_ARENA_MAX, _ARENAS),
            (_MMAP_THRESHOLD, _OWN_PAGES_FROM),
            (_TRIM_THRESHOLD, _KEPT_BYTES),
        ):
            mallopt(parameter, value)


def spare_collector() -> None:
    """What is there now lives as long as the server: no collection stops the loop to look through it, tens of ms."""
    gc.freeze()


def collect_garbage() -> None:
    """What earlier requests have left in cycles. Blocking, for some milliseconds.

    Does nothing before `spare_collector`: looking through all that a program has imported would stop it for a while.
    """
    if gc.get_freeze_count():
        gc.collect()
