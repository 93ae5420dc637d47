"""What a runner takes of the host, looked at often; who takes more than it may is reported once. Owned by handle.py.

On the CPU the kernel itself refuses memory over the limit (RLIMIT_DATA, set by sandbox.py and drawn in by `settle`):
then an allocation of the engine fails, which costs that request or that runner. The looks here catch the rest: a
runner with a GPU, whose driver reserves far more than it uses; memory that no limit counts; one that stays at its
limit; and threads, processes and files, which have no limit of their own that suits root and plain users.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.runner.allowance import AGAIN_SHARE, CLOSE_SHARE
from corral.runner.spec import LaunchOptions

_NO_LIMIT = resource.RLIM_INFINITY
_BUSY_S, _IDLE_S = 0.1, 0.5  # between two looks
_GLANCES = 4  # looks at nothing but its resident memory, after each whole one
_STRAIN_S = 2.0  # so long may a runner take to come down from its limit
_MOST_THREADS = 2048  # the engine's server starts up to 1024 for requests
_MOST_PROCESSES = 64  # of a script that starts an engine
_MOST_FILES = 16  # in the runner's own folder, where its socket is
# of /proc/<pid>/status: what the process holds and nobody else could drop; page tables too
_HELD = ("RssAnon", "RssShmem", "VmSwap", "VmPTE", "HugetlbPages")
_FIELD = re.compile(rf"^({'|'.join((*_HELD, 'VmRSS', 'VmData', 'Threads'))}):\s+(\d+)".encode(), re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children hold: bytes of memory, bytes that count for RLIMIT_DATA, threads, processes."""

    held_bytes: int = 0
    data_bytes: int = 0
    threads: int = 0
    processes: int = 0


def read_usage(pid: int, *, alone: bool = False) -> Usage:
    """Of a process and, unless it is alone, all below it; nothing where there is no /proc. Blocking, for a moment."""
    held = data = threads = processes = 0
    for each in [pid] if alone else _tree(pid):
        with contextlib.suppress(OSError, ValueError):
            fields = _status(each)
            held += sum(fields.get(name, 0) for name in _HELD) * 1024
            data += fields.get("VmData", 0) * 1024
            threads += fields.get("Threads", 0)
            processes += 1
    return Usage(held, data, threads, processes)


def _status(pid: int) -> dict[str, int]:
    found = _FIELD.findall(Path(f"/proc/{pid}/status").read_bytes())
    return {name.decode(): int(number) for name, number in found}


def _tree(pid: int) -> Iterator[int]:
    """The process and its descendants, at most so many that it is clear that they are too many."""
    found, open_ends = 0, [pid]
    while open_ends and found <= _MOST_PROCESSES:
        each = open_ends.pop()
        found += 1
        yield each
        with contextlib.suppress(OSError):
            for task in os.scandir(f"/proc/{each}/task"):
                with contextlib.suppress(OSError):
                    open_ends += map(int, Path(f"{task.path}/children").read_text().split())


def resident_bytes(pid: int | None) -> tuple[int, int]:
    """(in RAM, of these not backed by a file); zeros where that is not told. Blocking."""
    with contextlib.suppress(OSError, ValueError):
        fields = _status(pid or 0)
        return fields.get("VmRSS", 0) * 1024, fields.get("RssAnon", 0) * 1024
    return 0, 0


@contextlib.contextmanager
def _resident(pid: int) -> Iterator[Callable[[], int]]:
    """Asks how many bytes a process has in RAM, its files' among them, in microseconds; 0 where that is not told."""
    try:
        descriptor = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield lambda: 0
        return

    def ask() -> int:
        with contextlib.suppress(OSError):  # it has ended
            return int(os.pread(descriptor, 128, 0).split()[1]) * resource.getpagesize()
        return 0

    try:
        yield ask
    finally:
        os.close(descriptor)


class UsageWatch:
    """Looks until it is closed. over: told, on the loop, what there is too much of, and how much of it may be.

    given_bytes: of memory files that it got from us, which count as its own once it maps them. It looks from a thread
    of its own: a look through the executor costs the loop as much as a token of an answer, ten times a second.
    """

    def __init__(
        self,
        pid: int,
        options: LaunchOptions,
        is_busy: Callable[[], bool],
        over: Callable[[str, int], None],
        given_bytes: int = 0,
    ) -> None:
        self.limit_bytes = options.memory_limit_bytes + given_bytes if options.memory_limit_bytes else 0
        self._pid = pid
        self._folder = options.dir
        self._alone = options.sandbox and not options.llama_server  # it cannot start a process
        self._room_bytes = 0
        self._is_busy = is_busy
        self._over = over
        self._strained_at = 0.0  # since when it is at its limit, and has not come down again; 0 = it is not
        self.at_limit = False  # at the last look while it lived: what it asks for next, it may not get
        self._closed = threading.Event()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, name=f"usage of {pid}", daemon=True).start()

    def close(self) -> None:
        """Stop looking; nothing more is told. The thread ends by itself, within a look."""
        self._closed.set()

    def settle(self, room_bytes: int) -> None:
        """After the load, hold the runner to what was planned, or what it has now if that is more, and the room.

        Draws the kernel's limit in, where there is one, to what this leaves. Blocking.
        """
        if not self.limit_bytes:
            return
        usage = read_usage(self._pid, alone=self._alone)
        self._room_bytes = room_bytes
        self.limit_bytes = max(self.limit_bytes, usage.held_bytes + room_bytes)
        with contextlib.suppress(OSError, ValueError):  # the process is gone
            if sys.platform == "linux" and resource.prlimit(self._pid, resource.RLIMIT_DATA)[1] != _NO_LIMIT:
                data = usage.data_bytes + self.limit_bytes - usage.held_bytes
                resource.prlimit(self._pid, resource.RLIMIT_DATA, (data, data))

    def _watch(self) -> None:
        looks = 0
        with _resident(self._pid) as resident_bytes:
            while not self._closed.wait(_BUSY_S if self._is_busy() else _IDLE_S):
                looks += 1
                if self._alone and looks % (_GLANCES + 1) and self._is_calm(resident_bytes()):
                    continue
                verdict = self._look()
                if verdict is not None:
                    with contextlib.suppress(RuntimeError):  # the loop has ended, and the runner with it
                        self._loop.call_soon_threadsafe(self._tell, *verdict)
                    return

    def _tell(self, what: str, limit: int) -> None:
        if not self._closed.is_set():
            self._over(what, limit)

    def _look(self) -> tuple[str, int] | None:
        """What there is too much of, and how much of it may be."""
        usage = read_usage(self._pid, alone=self._alone)
        if usage.held_bytes:  # a process that ends holds nothing
            self.at_limit = 0 < self.limit_bytes - self._room_bytes // CLOSE_SHARE <= usage.held_bytes
        if self.limit_bytes and (usage.held_bytes > self.limit_bytes or self._stays_strained(usage.held_bytes)):
            return "memory", self.limit_bytes
        if usage.threads > _MOST_THREADS:
            return "threads", _MOST_THREADS
        if usage.processes > _MOST_PROCESSES:
            return "processes", _MOST_PROCESSES
        with contextlib.suppress(OSError):
            if len(os.listdir(self._folder)) > _MOST_FILES:  # noqa: PTH208  names only
                return "files", _MOST_FILES
        return None

    def _is_calm(self, resident_bytes: int) -> bool:
        """Whether so much, of which some may be dropped, is nowhere near the limit."""
        return not self._strained_at and 0 < resident_bytes < self.limit_bytes - self._room_bytes // AGAIN_SHARE

    def _stays_strained(self, held_bytes: int) -> bool:
        """Whether it came close to its limit and has not come down: others would fail next for lack of memory."""
        now = time.monotonic()
        if held_bytes < self.limit_bytes - self._room_bytes // AGAIN_SHARE:
            self._strained_at = 0.0
        elif self._room_bytes and held_bytes >= self.limit_bytes - self._room_bytes // CLOSE_SHARE:
            self._strained_at = self._strained_at or now
        return self._strained_at > 0.0 and now - self._strained_at > _STRAIN_S
