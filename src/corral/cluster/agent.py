"""The agent of a node: a listener, the node's runners and blobs, and reports. A Ray actor (driver.py makes it one).

It serves one server for its whole life. When that server's connection ends, or nothing comes of it for SILENCE_S, or
the node's raylet is gone, the agent kills its runners and its own process, which is how a cluster is clean when the
next server comes: whatever is found running then belongs to somebody. The event loop has a thread of its own; Ray
keeps the main one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NoReturn

from msgspec import DecodeError

from corral import __version__
from corral.aio import run_blocking
from corral.cluster.listener import Head, Listener, read_line
from corral.cluster.nodeblobs import NodeBlobs
from corral.cluster.noderunners import NodeRunners
from corral.cluster.sharing import BlobShare
from corral.cluster.wire import (
    MAX_LINE_BYTES,
    Beat,
    Condemn,
    Create,
    End,
    Hello,
    Order,
    Report,
    ReportAsked,
    Told,
    line,
    read_order,
)
from corral.config import Settings
from corral.runner.enginefiles import EngineFiles
from corral.runner.launch import LocalLauncher
from corral.sched.hostmemory import HostMemory

log = logging.getLogger(__name__)
BEAT_S = 0.5  # between two signs of life, in both directions
REPORT_S = 2.0
SILENCE_S = 4.0  # after which the other side counts as gone
_UNWANTED_S = 60.0  # a server that had an agent started and does not come is dead
_CLOSE_S = 3.0
_MOST_UNSENT_BYTES = 2 * MAX_LINE_BYTES
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: corral\r\nConnection: Upgrade\r\n\r\n"


class Agent:
    """What Ray makes an actor of. node: its name; host: the address of it to listen on; settings: of the server, by
    field, over those of the node's own environment.
    """

    def __init__(self, node: str, host: str, settings: Mapping[str, Any]) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._address: Future[tuple[str, int, str]] = Future()
        flags = {name: math.inf if value is None else value for name, value in settings.items()}  # as JSON spells it
        arguments = (node, host, Settings.from_env(flags=flags), self._address)
        threading.Thread(target=_run, args=arguments, name="agent", daemon=True).start()

    def address(self) -> tuple[str, int, str]:
        """(host, port, the token of its server); called by Ray."""
        return self._address.result(timeout=30)


def _run(node: str, host: str, settings: Settings, address: Future[tuple[str, int, str]]) -> NoReturn:
    """The agent's thread; the process ends with it."""
    try:
        asyncio.run(_Session(node, settings).run(host, address))
    except BaseException as error:
        log.exception("the agent of %s failed", node)
        if not address.done():
            address.set_exception(RuntimeError(str(error)))
    os._exit(0)  # and with it whatever runner is left: they are leashed to this process


class _Session:
    """One agent's life with one server."""

    def __init__(self, node: str, settings: Settings) -> None:
        self._node = node
        self._settings = settings
        self._listener = Listener()
        self._writer: asyncio.StreamWriter | None = None
        self._over = asyncio.Event()
        self._heard_at = 0.0
        self._report_now = asyncio.Event()
        self._told_blobs: tuple[str, ...] | None = None
        self._raylet = os.getppid()

    async def run(self, host: str, address: Future[tuple[str, int, str]]) -> None:
        """Until the server is gone."""
        clock = asyncio.get_running_loop().time
        self._blobs = NodeBlobs(self._settings)
        self._memory = HostMemory()
        files = EngineFiles(self._blobs.store, lambda: self._memory.read().available_bytes)
        launcher = await run_blocking(LocalLauncher, self._settings, files)
        self._memory = HostMemory.of(launcher, self._settings)
        keeps = not self._settings.separates_keys
        self._runners = NodeRunners(launcher, self._blobs, self._listener, self._tell, keeps=keeps)
        self._share = self._listener.admit(BlobShare(self._blobs.find).serve)
        token = self._listener.admit(self._serve)
        await self._listener.listen(host)
        self._heard_at = clock() + _UNWANTED_S
        address.set_result((self._listener.host, self._listener.port, token))
        tasks = [asyncio.create_task(work) for work in (self._beat(), self._report())]
        try:
            while not self._over.is_set() and clock() - self._heard_at < SILENCE_S and os.getppid() == self._raylet:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await self._over.wait()
        finally:
            log.info("the agent of %s ends: its server or its raylet is gone", self._node)
            for task in tasks:
                task.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._runners.close()
                    await self._listener.close()
                    await self._blobs.close()
                    await files.close()
            await run_blocking(launcher.close)

    async def _serve(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The server's connection; there is one."""
        if self._writer is not None:
            return
        self._writer = writer
        writer.write(SWITCHING)
        self._tell(Hello(__version__, os.getpid(), self._share))
        self._report_now.set()
        clock = asyncio.get_running_loop().time
        try:
            while text := await read_line(reader, MAX_LINE_BYTES):
                self._heard_at = clock()
                self._take(read_order(text))
        except DecodeError:
            log.exception("the server of %s sent what is no order", self._node)
        finally:
            self._over.set()

    def _take(self, order: Order) -> None:
        match order:
            case Create():
                self._runners.create(order)
            case End():
                self._runners.end(order)
            case Condemn():
                self._runners.condemn(order)
            case ReportAsked():
                self._report_now.set()
            case _:
                pass  # a beat: that it came is all

    def _tell(self, told: Told) -> None:
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        writer.write(line(told))
        if writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            self._over.set()  # a server that does not read is none

    async def _beat(self) -> None:
        """Apart from the reports, which take as long as the disk and the drivers of GPUs take."""
        while True:
            self._tell(Beat())
            await asyncio.sleep(BEAT_S)

    async def _report(self) -> None:
        """What is here now, every REPORT_S once there is somebody to tell."""
        await self._report_now.wait()
        while True:
            self._report_now.clear()
            figures = await run_blocking(self._memory.read)
            blobs = await run_blocking(self._blobs.digests)
            self._tell(Report(figures, None if blobs == self._told_blobs else blobs))
            self._told_blobs = blobs
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._report_now.wait()
