"""`EngineFiles`: what the engine opens in the place of a model's blobs, made when it is not there yet.

Called before a load (handle.py) and at the end of pull and create (server/translation.py). Whoever needs the same file
at the same time waits for one making of it, on the executor. A transfer that is closed ends it, if nobody else waits; a
load that is given up does not: a client that is less patient than a translation takes would never get there, however
often it came back.

| where  | when                                                      | how long                                |
|--------|-----------------------------------------------------------|-----------------------------------------|
| disk   | one of the store's places for them has room               | as long as the blob                     |
| memory | none has, memory is plenty, and the model is to be loaded | as long as the runner, which holds them |
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from corral.aio import run_blocking, run_settled
from corral.errors import BlobNotFound, CorralError, NotEnoughSpace, RequestCanceled
from corral.inflight import InFlight
from corral.names import Digest
from corral.runner.spec import RunnerSpec
from corral.store.derived import Order, Part, order_for
from corral.store.models import ModelStore
from corral.translate import write

_LOG = logging.getLogger(__name__)
_AT_ONCE = 2  # makings; each keeps a disk busy and a thread of the executor
_TELL_EVERY_S = 0.25
_LOOK_AGAIN_S = 0.2  # for a file that another process makes
_SPARE_MEMORY_BYTES = 2 * 2**30  # what a memory file leaves free beside itself
_MEMORY_NAME = "corral-translated"

_HAS_MEMORY_FILES = hasattr(os, "memfd_create")
# a runner can read its memory files; it could also fill them, and no limit counts what is in there
_SEALS = sum(getattr(fcntl, f"F_SEAL_{what}", 0) for what in ("GROW", "SHRINK", "WRITE", "SEAL"))

_Key = tuple[Path, Part]
OnProgress = Callable[[int, int], None]  # bytes so far, bytes in all


@dataclass(frozen=True, slots=True)
class Opened:
    """A spec with the files that the engine opens. `descriptors` are of memory files: the child inherits them, and the
    caller closes its own (`close`) once there is a child, or none will be.
    """

    spec: RunnerSpec
    descriptors: tuple[int, ...] = ()

    @property
    def memory_bytes(self) -> int:
        """Of the memory files, all of which a runner may map. Until `close`."""
        return sum(os.fstat(descriptor).st_size for descriptor in self.descriptors)

    def close(self) -> None:
        """Let go of the memory files; a runner that has them keeps them."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class EngineFiles:
    """Translated files. free_memory_bytes: what memory files may take; asked, blocking, before one is made."""

    def __init__(self, store: ModelStore, free_memory_bytes: Callable[[], int] = lambda: 0) -> None:
        self.store = store
        self._free_memory_bytes = free_memory_bytes
        self._inflight: InFlight[_Key] = InFlight(_TELL_EVERY_S)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._loads: dict[Path, asyncio.Task[None]] = {}  # what goes on although its load may have been given up

    async def close(self) -> None:
        """End all makings; what was not finished is made anew when it is needed."""
        for task in tuple(self._loads.values()):
            task.cancel()
        await asyncio.gather(*self._loads.values(), self._inflight.close(), return_exceptions=True)

    def orders_of(self, spec: RunnerSpec) -> list[Order]:
        """What the engine needs instead of the spec's blobs. Blocking.

        Raises UntranslatableModel, InvalidGGUF, OSError.
        """
        wanted = [(spec.model_path, Part.TEXT), *((path, Part.PROJECTOR) for path in spec.projector_paths)]
        if spec.draft_path is not None:
            wanted.append((spec.draft_path, Part.TEXT))
        orders = [order_for(self.store.header(path), part) for path, part in wanted]
        return [order for order in orders if order is not None]

    async def open(self, spec: RunnerSpec, on_progress: OnProgress) -> Opened:
        """The spec with every blob replaced that the engine cannot open; makes what is missing.

        Raises NotEnoughSpace, UntranslatableModel, InvalidGGUF, BlobNotFound, OSError. Cancelling lets what is made on
        a disk go on.
        """
        orders, files = await run_blocking(self._look, spec)
        if len(files) == len(orders):
            return Opened(_with_files(spec, files))
        self._go_on(spec.model_path, orders)
        try:
            async with aclosing(self.make(orders)) as steps:
                async for done, total in steps:
                    on_progress(done, total)
        except NotEnoughSpace as error:
            return await self._open_in_memory(spec, orders, error, on_progress)
        files = await run_blocking(self._find, orders)
        for order in orders:
            if _key(order) not in files:  # removed with its model in this moment
                raise BlobNotFound(str(Digest.parse(order.source.name)))
        return Opened(_with_files(spec, files))

    async def make(self, orders: Sequence[Order]) -> AsyncGenerator[tuple[int, int], None]:
        """Have all files of the orders on a disk: (bytes so far, bytes in all), nothing when they are there.

        Raises as `open`; closing the iterator leaves the making to others who wait for it, or ends it.
        """
        files = await run_blocking(self._find, orders)
        missing = [order for order in orders if _key(order) not in files]
        total = sum(order.size_bytes for order in missing)
        done = 0
        for order in missing:
            make = self._on_disk(order, total - done - order.size_bytes)
            async with aclosing(self._follow(_key(order), make)) as steps:
                async for completed in steps:
                    yield done + completed, total
            done += order.size_bytes
            yield done, total

    def _go_on(self, model: Path, orders: Sequence[Order]) -> None:
        """Wait for the makings of a load beside it, so that they have a waiter until they are done."""
        if model not in self._loads:
            self._loads[model] = asyncio.create_task(self._wait_for(orders), name=f"translating {model.name}")
            self._loads[model].add_done_callback(lambda _: self._loads.pop(model))

    async def _wait_for(self, orders: Sequence[Order]) -> None:
        try:
            async with aclosing(self.make(orders)) as steps:
                async for _ in steps:
                    pass
        except (CorralError, OSError) as error:  # the load, if there still is one, gets it too
            _LOG.info("%s was not translated: %s", orders[0].source.name, error)

    def _look(self, spec: RunnerSpec) -> tuple[list[Order], dict[_Key, Path]]:
        orders = self.orders_of(spec)
        return orders, self._find(orders)

    def _find(self, orders: Sequence[Order]) -> dict[_Key, Path]:
        """The files that are there."""
        found = {_key(order): self.store.derived.find(order) for order in orders}
        return {key: path for key, path in found.items() if path is not None}

    async def _follow(self, key: _Key, make: Callable[[_Making], None]) -> AsyncGenerator[int, None]:
        """Join the making of this file, or start it; its bytes so far until it is done."""
        job = _Making(self._turns, make)
        async with aclosing(self._inflight.follow(key, lambda: job)) as steps:
            async for completed in steps:
                yield completed

    def _on_disk(self, order: Order, more_bytes: int) -> Callable[[_Making], None]:
        def make(making: _Making) -> None:
            path = self.store.derived.make(order, making.tell, making.pause, more_bytes=more_bytes)
            _LOG.info("%s is translated for the engine: %s, %d bytes", order.source.name, path, order.size_bytes)

        return make

    async def _open_in_memory(
        self, spec: RunnerSpec, orders: Sequence[Order], full: NotEnoughSpace, on_progress: OnProgress
    ) -> Opened:
        """As `open`, with what is missing in memory; raises `full`, why it is not on a disk, when memory is short."""
        files = await run_blocking(self._find, orders)
        missing = [order for order in orders if _key(order) not in files]
        total = sum(order.size_bytes for order in missing)
        if not _HAS_MEMORY_FILES or total + _SPARE_MEMORY_BYTES > await run_blocking(self._free_memory_bytes):
            raise full
        _LOG.warning("%s is translated into memory, %d bytes: %s", spec.model_path.name, total, full)
        opened, done = Opened(spec), 0
        try:
            for order in missing:
                fd = os.memfd_create(_MEMORY_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                opened = replace(opened, descriptors=(*opened.descriptors, fd))
                files[_key(order)] = Path(f"/proc/self/fd/{fd}")  # the child inherits it under the same number
                async with aclosing(self._follow((files[_key(order)], order.part), _into(order, fd))) as steps:
                    async for completed in steps:
                        on_progress(done + completed, total)
                done += order.size_bytes
            on_progress(total, total)
        except BaseException:
            opened.close()
            raise
        # mapped, the engine makes no second copy of what is in memory already
        return replace(opened, spec=replace(_with_files(spec, files), use_mmap=True))


class _Making:
    """One file being made on the executor; an InFlight job."""

    def __init__(self, turns: asyncio.Semaphore, make: Callable[[_Making], None]) -> None:
        self.completed = 0
        self._turns = turns
        self._make = make
        self._stopped = threading.Event()

    async def run(self) -> None:
        """Make it; a cancellation is passed on when the making has ended, a piece later."""
        async with self._turns:
            work = asyncio.ensure_future(run_settled(self._make, self))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                self._stopped.set()
                await asyncio.wait({work})
                if not work.cancelled():
                    work.exception()  # taken, so that asyncio does not log it as lost
                raise

    def tell(self, completed: int) -> None:
        """On the executor: so many bytes; raises when nobody waits any more."""
        self.completed = completed
        if self._stopped.is_set():
            raise RequestCanceled("nobody waits for the translation")

    def pause(self) -> None:
        """On the executor: wait a little for another process; raises when nobody waits any more."""
        if self._stopped.wait(_LOOK_AGAIN_S):
            raise RequestCanceled("nobody waits for the translation")


def _key(order: Order) -> _Key:
    return order.source, order.part


def _with_files(spec: RunnerSpec, files: Mapping[_Key, Path]) -> RunnerSpec:
    """The spec with each blob's file in its place."""
    return replace(
        spec,
        model_path=files.get((spec.model_path, Part.TEXT), spec.model_path),
        projector_paths=tuple(files.get((path, Part.PROJECTOR), path) for path in spec.projector_paths),
        draft_path=None if spec.draft_path is None else files.get((spec.draft_path, Part.TEXT), spec.draft_path),
    )


def _into(order: Order, descriptor: int) -> Callable[[_Making], None]:
    def make(making: _Making) -> None:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            write(order.source, order.plan, file, making.tell)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)

    return make
