"""Leaving an engine's socket alone for a moment, while more of a fast answer gathers there. Used by stream.py.

The engine computes on every core, and its threads wait for each other hundreds of times a token: each time the server
wakes, all of them stand. A small model makes a token in less time than a screen takes to show one, so where tokens come
faster than a reader could tell, the server looks every GATHER_S and passes on what is there, each token still in its
own line. Slower answers, the first tokens of every answer and its end are passed on as they come: the end is the
engine's closing of the connection, which an epoll of its own waits for. Where there is none (macOS) nothing gathers.
docs/adr/0037 has the measurements.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

GATHER_S = 0.02  # fifty times a second
_FAST_S = 0.75 * GATHER_S  # between two pieces
_READ_BYTES = 64 * 1024  # more is no text that somebody reads as it comes


class Gathering:
    """One connection, whose transport is paused while this reads it. `close` it before the transport.

    take: gets what was read here; False when nothing more is to be read for now, by the transport neither.
    """

    def __init__(self, transport: asyncio.Transport, take: Callable[[bytes], bool]) -> None:
        self._transport = transport
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._came_at = -1.0
        self._rest: asyncio.TimerHandle | None = None
        self._end: select.epoll | None = None
        self._is_possible = hasattr(select, "epoll")

    def came(self) -> None:
        """The transport has read a piece; go on here, when such come fast."""
        now = self._loop.time()
        is_fast, self._came_at = now - self._came_at < _FAST_S, now
        if is_fast and self._is_possible and self._rest is None:
            if self._end is None:
                self._end = select.epoll()
                self._end.register(self._fd, select.EPOLLRDHUP)
                self._loop.add_reader(self._end.fileno(), self._has_ended)
            self._transport.pause_reading()
            self._rest = self._loop.call_later(GATHER_S, self._look)

    def close(self) -> None:
        """Read here no more."""
        self._is_possible = False
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._end is not None:
            self._loop.remove_reader(self._end.fileno())
            self._end.close()
            self._end = None

    def _look(self) -> None:
        self._rest = None
        try:
            data = os.read(self._fd, _READ_BYTES)
        except OSError:  # nothing is there, or the connection is gone, of which the transport will tell
            data = b""
        if data and not self._take(data):
            return
        if 0 < len(data) < _READ_BYTES:
            self._rest = self._loop.call_later(GATHER_S, self._look)
        else:
            self._resume()

    def _has_ended(self) -> None:
        is_here = self._rest is not None
        self.close()
        if is_here:
            self._resume()

    def _resume(self) -> None:
        self._came_at = -1.0
        if not self._transport.is_closing():
            self._transport.resume_reading()
