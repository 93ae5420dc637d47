"""A call to a runner, from the server's connection to the engine's socket and back: bytes, as they come.

Nothing is parsed but the head, which has been read already. What an agent's watchdog has to know of a call, it learns
here, for the server's client that makes the calls is on another machine: when it began, and when its answer moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from corral.cluster.listener import Handler, Head
from corral.runner.calls import Call
from corral.runner.client import SLOT_SEEKERS
from corral.runner.handle import RunnerHandle

_PIECE_BYTES = 2**16
_STREAMS = frozenset({"/completion", "/v1/chat/completions"})
_EVENT = b"data:"  # what stands in every event, and not in the comments between them
_STATUS = b"HTTP/1."


def relay_to(handle: RunnerHandle) -> Handler:
    """What leads to this runner."""

    async def relay(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine = await asyncio.open_unix_connection(handle.socket_path)
        try:
            call = _call(head)
            with handle.client.calls.add(call):
                engine.write(head.raw)
                asking = asyncio.create_task(_pass(reader, engine))
                answering = asyncio.create_task(_answer(handle, call, head.path in _STREAMS, engine_reader, writer))
                try:
                    await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await _ended(asking, answering)
        finally:
            engine.transport.abort()  # at once: it is how the engine learns that nobody wants its answer

    return relay


def _call(head: Head) -> Call:
    """As client.py tells its own calls apart."""
    path, size = head.path.partition("?")[0], head.headers.get("content-length", "")
    seeks = path in _STREAMS or path in SLOT_SEEKERS
    return Call(time.monotonic(), int(size) if size.isdecimal() else 0, seeks, path.startswith("/slots/"))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the sender has nothing more, or the receiver is gone."""
    while data := await reader.read(_PIECE_BYTES):
        writer.write(data)
        await writer.drain()


async def _answer(
    handle: RunnerHandle, call: Call, streams: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    calls = handle.client.calls
    while data := await reader.read(_PIECE_BYTES):
        if not streams or _EVENT in data or data.startswith(_STATUS):
            calls.move(call)
        writer.write(data)
        await writer.drain()


async def _ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await task
