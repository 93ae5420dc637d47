"""Room for large request bodies: how much memory they may take together. Used by body.py, for every request.

A body and what is made of it (texts, a prompt, what the engine is sent) live as long as its request. So a request with
a large one waits until there is room for all of that; small ones never do. The bodies themselves, also those that are
still on their way, have a bound of their own, beyond which a 503 tells to come back.
"""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from corral.aio import run_blocking, run_large
from corral.errors import BodiesFull
from corral.jsonbudget import wide_bytes
from corral.server.memory import collect_garbage

LARGE_BYTES = 2**20  # bodies from here on count
ROOM_BYTES = 96 * 2**20
_COPIES = 4  # of a body: itself, its texts, and what the engine is sent and answers
_WIDE_COPIES = 3  # of texts beyond ASCII, as they take four times the memory
_SHARE = "corral.body_room"  # scope entry: the Share of a request


class BodyRoom:
    """The room of one server. most_bytes: the largest body that there may be."""

    def __init__(self, most_bytes: int) -> None:
        self._most_held = max(most_bytes, ROOM_BYTES)
        self._held = 0
        self._free = ROOM_BYTES
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def enter(self, scope: Scope) -> Share:
        """A request begins; `leave` gives back what it will take."""
        share = scope[_SHARE] = Share(self)
        return share

    async def leave(self, share: Share) -> None:
        """A request has ended."""
        if not share.held and not share.taken:
            return
        try:
            if share.taken:  # an error may hold what was made of the body, in a cycle
                await run_blocking(collect_garbage)
        finally:
            self._held -= share.held
            self._free += share.taken
            self._admit()

    def hold(self, size: int) -> None:
        """Count bytes of a body; raises BodiesFull when there are too many."""
        if self._held + size > self._most_held:
            raise BodiesFull(self._most_held)
        self._held += size

    async def take(self, size: int) -> None:
        """Wait in line for so much room, which must be given back."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += size
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= size
                turn.set_result(None)


class WithRoom:
    """ASGI middleware: every request has its share of the room."""

    def __init__(self, app: ASGIApp, room: BodyRoom) -> None:
        self._app = app
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        share = self._room.enter(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            await self._room.leave(share)


class Share:
    """What one request has of the room."""

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self.held = self.taken = 0

    def grow(self, size: int) -> bool:
        """The body has so many bytes by now; whether that is large. Raises BodiesFull."""
        if size < LARGE_BYTES:
            return False
        self._room.hold(size - self.held)
        self.held = size
        return True

    async def settle(self, data: bytes) -> None:
        """Wait until there is room for what a body becomes. Raises InvalidRequest for texts that are too large."""
        if len(data) < LARGE_BYTES:
            return
        wide = await run_large(wide_bytes, data)
        size = min(_COPIES * len(data) + _WIDE_COPIES * wide, ROOM_BYTES) - self.taken
        if size > 0:
            await self._room.take(size)
            self.taken += size
        await run_blocking(collect_garbage)


def share_of(request: Request) -> Share:
    """The room of a request."""
    share: Share = request.scope[_SHARE]
    return share
