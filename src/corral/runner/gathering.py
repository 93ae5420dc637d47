"""Leaving an engine's sockets alone for a moment, while more of its fast answers gathers there. Used by stream.py.

The engine computes on every core, and its threads wait for each other hundreds of times a token: each time the server
wakes, all of them stand. A small model makes a token in less time than a screen takes to show one, so where tokens come
faster than a reader could tell, the server looks every GATHER_S and passes on what is there, each token still in its
own line. What nobody sees before its end is looked at every WHOLE_S, however slow it is. All that rest are looked at in
one waking.

Slower answers, the first tokens of every answer and its end are passed on as they come: the end is the engine's closing
of the connection, which an epoll of its own waits for. Where there is none (macOS) nothing gathers.
docs/adr/0037 has the measurements.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

GATHER_S = 0.02  # fifty times a second
WHOLE_S = 0.1
_FAST_S = 0.75 * GATHER_S  # between two pieces
_READ_BYTES = 64 * 1024  # more is no text that somebody reads as it comes


class Rounds:
    """Looks at all connections of an engine that rest, each time in one waking; owns the timer and the epoll."""

    def __init__(self) -> None:
        self._resting: dict[int, Gathering] = {}  # by descriptor
        self._timer: asyncio.TimerHandle | None = None
        self._ends: select.epoll | None = None

    def begin(self, fd: int, gathering: Gathering) -> None:
        """Look at this one too, from now on."""
        loop = asyncio.get_running_loop()
        if self._ends is None:
            self._ends = select.epoll()
            loop.add_reader(self._ends.fileno(), self._see_ends)
        self._ends.register(fd, select.EPOLLRDHUP)
        self._resting[fd] = gathering
        if self._timer is not None and self._timer.when() > loop.time() + gathering.every_s:
            self._timer.cancel()
            self._timer = None
        self._go_on()

    def end(self, fd: int) -> None:
        """Look at this one no more."""
        if self._resting.pop(fd, None) is None or self._ends is None:
            return
        self._ends.unregister(fd)
        if not self._resting:
            asyncio.get_running_loop().remove_reader(self._ends.fileno())
            self._ends.close()
            self._ends = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _go_on(self) -> None:
        if self._timer is None and self._resting:
            every_s = min(each.every_s for each in self._resting.values())
            self._timer = asyncio.get_running_loop().call_later(every_s, self._look)

    def _look(self) -> None:
        self._timer = None
        for each in list(self._resting.values()):
            each.look()
        self._go_on()

    def _see_ends(self) -> None:
        for fd, _ in self._ends.poll(0) if self._ends is not None else ():
            self._resting[fd].has_ended()


class Gathering:
    """One connection, whose transport is paused while it rests. `close` it before the transport.

    take: gets what was read here; False when nothing more is to be read for now, by the transport neither. every_s: how
    often to look while it rests: GATHER_S, or WHOLE_S when nobody sees the answer before its end.
    """

    def __init__(
        self, transport: asyncio.Transport, take: Callable[[bytes], bool], rounds: Rounds, every_s: float
    ) -> None:
        self.every_s = every_s
        self._is_whole = every_s > GATHER_S
        self._transport = transport
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._take = take
        self._rounds = rounds
        self._loop = asyncio.get_running_loop()
        self._came_at = -1.0
        self._rests = False
        self._is_possible = hasattr(select, "epoll")

    def came(self) -> None:
        """The transport has read a piece; go on here, when such come fast."""
        now = self._loop.time()
        is_fast, self._came_at = now - self._came_at < _FAST_S, now
        if (is_fast or self._is_whole) and self._is_possible and not self._rests:
            self._transport.pause_reading()
            self._rests = True
            self._rounds.begin(self._fd, self)

    def look(self) -> None:
        """Read what is here."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except OSError:  # nothing is there, or the connection is gone, of which the transport will tell
            data = b""
        if data and not self._take(data):
            self._rest_no_more()
        elif len(data) == _READ_BYTES or not (data or self._is_whole):
            self._resume()

    def has_ended(self) -> None:
        """The engine has closed its side: what is left is the transport's to read."""
        self._is_possible = False
        self._resume()

    def close(self) -> None:
        """Read here no more."""
        self._is_possible = False
        self._rest_no_more()

    def _resume(self) -> None:
        self._rest_no_more()
        self._came_at = -1.0
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _rest_no_more(self) -> None:
        if self._rests:
            self._rests = False
            self._rounds.end(self._fd)
