"""One blocking call with a progress callback, as a generator of progress lines that can be closed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from corral.core import TransferStatus
from corral.create.drafts import Steps

T = TypeVar("T")
Progress = Callable[[int, int], None]  # bytes done, bytes in all


class _Stopped(Exception):
    """The generator was closed: a signal from our callback to ourselves, through the code that calls it."""


class Background(Generic[T]):
    """Runs `work(progress)` on a thread of its own; closing the generator stops it at its next progress call."""

    def __init__(self, work: Callable[[Progress], T]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._lines: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._result: Future[T] = Future()

    def steps(self, status: str) -> Steps[T]:
        """Lines of `status` with bytes; returns what the work returned, raises what it raised."""
        thread = threading.Thread(target=self._run, name="corral-create", daemon=True)
        thread.start()
        try:
            while (line := self._lines.get()) is not None:
                done, total = line
                yield TransferStatus(status, total=total, completed=done)
            return self._result.result()
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        try:
            self._result.set_result(self._work(self._progress))
        except BaseException as error:  # noqa: BLE001  it is raised again by `steps`
            self._result.set_exception(error)
        finally:
            self._lines.put(None)

    def _progress(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise _Stopped
        self._lines.put((done, total))
