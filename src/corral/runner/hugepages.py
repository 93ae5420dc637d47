"""Huge pages for a runner's weights and KV cache, which lie in memory that malloc takes; not for mapped weights.

Measured on CPU: decoding 1.14 to 1.5 times as fast, 4 % more memory. How a runner comes by them (ADR 38):

| way       | how                                                                       | needs                        |
|-----------|---------------------------------------------------------------------------|------------------------------|
| COLLAPSED | once it serves, it has the kernel put together what it has touched so far | Linux 6.1, our own engine    |
| AT_ONCE   | malloc asks for them when it takes memory, and the load waits for them    | glibc 2.35                   |

A virtual machine whose host takes free memory back gets no huge page without the host's help: 0.5 to 7 ms each, a
second and more of a load.
"""

from __future__ import annotations

import ctypes
import enum
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

MALLOC_ASKS = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # only read when a program starts
_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SIZE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
_LEAST_GLIBC = (2, 35)
_LEAST_LINUX = (6, 1)
_MADV_COLLAPSE = 25
_LOOK_S = 2.0
_PATIENCE_S, _REST_S, _REST_SHARE = 10.0, 0.1, 0.3  # of a core's time
_GROWN_BYTES = 8 * 2**20  # what has to be touched anew before it is put together
_LEAST_BYTES = 16 * 2**20  # of a mapping: stacks, of which little is used, are smaller
_ENTRY_BYTES, _PRESENT = 8, 0x80  # of /proc/<pid>/pagemap; the highest bit of a little-endian entry
_MAPPING = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0 *(?:\[heap\])?$", re.MULTILINE)


class Way(enum.StrEnum):
    """See the table at the top of this file."""

    NONE = ""
    COLLAPSED = "collapsed"
    AT_ONCE = "at once"


def offered_way(policy: str | None = None, system: str | None = None, libc: str | None = None, *, execs: bool) -> Way:
    """How a runner can come by huge pages on this host; `execs`: it becomes another program."""
    words = _read_policy() if policy is None else policy
    if not ("[madvise]" in words or "[always]" in words):
        return Way.NONE
    if not execs and _at_least(os.uname().release if system is None else system, _LEAST_LINUX):
        return Way.COLLAPSED
    name, _, version = (_libc() if libc is None else libc).partition(" ")
    return Way.AT_ONCE if name == "glibc" and _at_least(version, _LEAST_GLIBC) else Way.NONE


def _at_least(version: str, least: tuple[int, int]) -> bool:
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= least


class Collapser:
    """Puts this process's memory into huge pages. Make it before the sandbox closes, for it opens files.

    Raises OSError or ValueError where the kernel does not tell what it needs to know.
    """

    def __init__(self) -> None:
        self._page_bytes = int(_SIZE.read_text())
        self._small_bytes = os.sysconf("SC_PAGESIZE")
        self._maps, self._pagemap, self._statm = (
            os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("maps", "pagemap", "statm")
        )
        self._done: set[int] = set()  # addresses of huge pages
        self._madvise = ctypes.CDLL(None).madvise
        self._madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def collapse(self) -> None:
        """Put together whatever of large mappings has been touched for the most part; the kernel may refuse.

        Page by page: over a whole mapping it stops at the first place that has not been touched.
        """
        for start, end in self._mappings():
            first = -(-start // self._page_bytes) * self._page_bytes
            for page in range(first, end - self._page_bytes + 1, self._page_bytes):
                if page not in self._done and self._is_in_use(page) and self._made_huge(page):
                    self._done.add(page)

    def follow(self) -> NoReturn:
        """Collapse soon, and again whenever so much more has been touched that it pays."""
        resident = 0
        self._let_pass()
        while True:
            if self._resident_bytes() >= resident + _GROWN_BYTES:
                self.collapse()
                resident = self._resident_bytes()
            time.sleep(_LOOK_S)

    def _let_pass(self) -> None:
        """Wait while a request that the model was loaded for is at work, but not for long."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            used = time.process_time()
            time.sleep(_REST_S)
            if time.process_time() - used < _REST_S * _REST_SHARE:
                return

    def _mappings(self) -> Iterator[tuple[int, int]]:
        os.lseek(self._maps, 0, os.SEEK_SET)
        text = bytearray()
        while piece := os.read(self._maps, 65536):
            text += piece
        for found in _MAPPING.finditer(text):
            start, end = int(found[1], 16), int(found[2], 16)
            if end - start >= _LEAST_BYTES:
                yield start, end

    def _made_huge(self, page: int) -> bool:
        return bool(self._madvise(page, self._page_bytes, _MADV_COLLAPSE) == 0)

    def _is_in_use(self, page: int) -> bool:
        """Whether half of the small pages there are in RAM: the rest of a cache may never be needed."""
        count = self._page_bytes // self._small_bytes
        entries = os.pread(self._pagemap, count * _ENTRY_BYTES, page // self._small_bytes * _ENTRY_BYTES)
        return 2 * sum(top >= _PRESENT for top in entries[_ENTRY_BYTES - 1 :: _ENTRY_BYTES]) >= count

    def _resident_bytes(self) -> int:
        return int(os.pread(self._statm, 128, 0).split()[1]) * self._small_bytes


def _read_policy() -> str:
    try:
        return _POLICY.read_text()
    except OSError:
        return ""


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""
