"""How a runner comes by huge pages, and that it puts into them what it uses."""

from __future__ import annotations

import ctypes
import mmap
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corral.runner.hugepages import Collapser, Way, offered_way

MIB = 2**20
USED, UNUSED = 64 * MIB, 64 * MIB


@pytest.mark.parametrize(
    ("policy", "system", "libc", "way"),
    [
        ("always [madvise] never\n", "6.1.0-31-amd64", "glibc 2.31", Way.COLLAPSED),
        ("[always] madvise never\n", "6.12.3", "", Way.COLLAPSED),
        ("always [madvise] never\n", "5.15.0-130-generic", "glibc 2.36", Way.AT_ONCE),
        ("[always] madvise never\n", "5.15.0", "glibc 2.35", Way.AT_ONCE),
        ("always [madvise] never\n", "5.15.0", "glibc 3.0", Way.AT_ONCE),
        ("always [madvise] never\n", "5.15.0", "glibc 2.34", Way.NONE),
        ("always [madvise] never\n", "5.15.0", "musl 1.2", Way.NONE),
        ("always [madvise] never\n", "unknown", "", Way.NONE),
        ("always madvise [never]\n", "6.12.3", "glibc 2.36", Way.NONE),
        ("", "6.12.3", "glibc 2.36", Way.NONE),
    ],
)
def test_huge_pages_are_come_by_as_the_host_allows(policy: str, system: str, libc: str, way: Way) -> None:
    assert offered_way(policy, system, libc, execs=False) is way


def test_another_program_gets_them_from_malloc_alone() -> None:
    assert offered_way("[madvise]", "6.12.3", "glibc 2.36", execs=True) is Way.AT_ONCE
    assert offered_way("[madvise]", "6.12.3", "musl 1.2", execs=True) is Way.NONE


def huge_bytes() -> int:
    found = re.search(r"AnonHugePages:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())
    assert found
    return int(found[1]) * 1024


def use_and_collapse() -> tuple[int, int]:
    """Bytes in huge pages after half of a mapping was used: before, and after it was collapsed."""
    mapping = mmap.mmap(-1, USED + UNUSED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    ctypes.memset(start, 1, USED)
    for place in range(USED, USED + UNUSED, MIB):
        ctypes.memset(start + place, 1, 4096)
    before = huge_bytes()
    Collapser().collapse()
    assert mapping[0] == mapping[USED - 1] == 1
    assert mapping[USED + 1 : USED + 4096] == bytes([1] * 4095)
    return before, huge_bytes()


@pytest.mark.skipif(
    sys.platform != "linux" or offered_way(execs=False) is not Way.COLLAPSED,
    reason="this kernel does not collapse memory on demand",
)
def test_what_is_in_use_is_put_into_huge_pages_and_the_rest_is_left() -> None:
    code = "from tests.unit.runner.test_hugepages import use_and_collapse; print(*use_and_collapse())"
    words = [sys.executable, "-c", code]  # apart from this process, whose own memory would count
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    before, after = map(int, done.stdout.split())
    assert USED - 8 * MIB <= after - before <= USED + 8 * MIB  # where a huge page begins is chance
