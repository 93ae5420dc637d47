"""`ChildOutput`: what a child says, its messages on one pipe and the engine's log on another. Owned by handle.py.

Messages are few and come before the child serves; afterwards their pipe is closed, so that an engine that has been
taken over has nobody to talk to there. The log may come at any time and in any amount: it is read no faster than a
healthy engine writes, and an engine that writes more has to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time

from corral.runner.job import NONSENSE, Message, read_message
from corral.runner.logs import EngineLog
from corral.runner.pipe import PipeReader, read_lines

_LOG = logging.getLogger(__name__)
_MOST_MESSAGES = 2  # `sandbox`, then `ready` or `failed`
_LOG_CHUNK_BYTES = 4096  # lines of it are looked at in one go
_LINES_PER_S, _LINES_AT_ONCE = 2000, 20_000  # a load writes some hundred, a request a dozen


class ChildOutput:
    """The reading ends of both pipes, and what came through them. last_at: when the log last moved, monotonic."""

    def __init__(self, log: EngineLog) -> None:
        self.log = log
        self.moved = asyncio.Event()  # a line was logged
        self.last_at = time.monotonic()
        self._messages: asyncio.Queue[Message] = asyncio.Queue(_MOST_MESSAGES + 1)
        self._fds: list[int] = []  # reading ends that nobody follows yet
        self._pipe: PipeReader | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> tuple[int, int]:
        """Make the pipes; the ends that the child writes to: log, messages. The caller closes them."""
        (log_fd, log_end), (message_fd, message_end) = os.pipe(), os.pipe()
        self._fds = [log_fd, message_fd]
        return log_end, message_end

    def follow(self) -> None:
        """Read from now on."""
        log_fd, message_fd = self._fds
        self._fds = []
        self.last_at = time.monotonic()
        self._pipe = PipeReader(log_fd, _LOG_CHUNK_BYTES)
        self._tasks = [
            asyncio.create_task(self._read_log(self._pipe), name="log of a runner"),
            asyncio.create_task(self._read_messages(message_fd), name="messages of a runner"),
        ]

    async def message(self) -> Message:
        """The next message."""
        return await self._messages.get()

    async def finish(self) -> None:
        """The child is dead, or there is none: take what it left, however late that is, and close the pipes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pipe is not None:
            self.log.feed(self._pipe.rest(), time.monotonic())
            self._pipe.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        self.log.finish()

    async def _read_log(self, pipe: PipeReader) -> None:
        allowed, since = float(_LINES_AT_ONCE), time.monotonic()
        while chunk := await pipe.read():
            self.last_at = time.monotonic()
            allowed = min(_LINES_AT_ONCE, allowed + (self.last_at - since) * _LINES_PER_S)
            since = self.last_at
            allowed -= 1 + self.log.feed(chunk, self.last_at)
            self.moved.set()
            if allowed < 0:
                await asyncio.sleep(-allowed / _LINES_PER_S)

    async def _read_messages(self, fd: int) -> None:
        try:
            async with contextlib.aclosing(read_lines(fd)) as lines:
                for _ in range(_MOST_MESSAGES):
                    self._messages.put_nowait(read_message(await anext(lines)))
        except StopAsyncIteration:
            return
        except ValueError:
            _LOG.warning("a runner sent a message that is none")
            self._messages.put_nowait(NONSENSE)
