"""The host's figures as containers see them: /proc/meminfo narrowed by cgroup v1 and v2 limits, on a made-up root."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from corral.runner.devices import Device
from corral.sched.hostmemory import HostMemory
from corral.sched.memory import DeviceFigures

GIB = 2**30
MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\nHugePages_Total: 0\n"


def make(root: Path, **files: str) -> HostMemory:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return HostMemory(root)


def test_without_a_cgroup_limit_meminfo_counts(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/user.slice\n", "sys/fs/cgroup/user.slice/memory.max": "max\n"}
    figures = make(tmp_path, **files).read()
    assert (figures.total_bytes, figures.available_bytes) == (16 * GIB, 8 * GIB)


def test_a_v2_limit_narrows_both_and_file_pages_do_not_count_as_used(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/a/b"
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        f"{group}/memory.max": str(4 * GIB),
        f"{group}/memory.current": str(3 * GIB),
        f"{group}/memory.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB // 2}\n",
    }
    figures = make(tmp_path, **files).read()
    assert (figures.total_bytes, figures.available_bytes) == (4 * GIB, 4 * GIB - 3 * GIB + GIB + GIB // 2)


def test_the_narrowest_of_nested_v2_groups_wins(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a/b\n"}
    for folder, limit in (("a", 2), ("a/b", 4)):
        files[f"sys/fs/cgroup/{folder}/memory.max"] = str(limit * GIB)
        files[f"sys/fs/cgroup/{folder}/memory.current"] = str(GIB)
    figures = make(tmp_path, **files).read()
    assert (figures.total_bytes, figures.available_bytes) == (2 * GIB, GIB)


def test_a_container_whose_path_is_the_hosts_finds_its_limit_at_the_mount(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/docker/123\n",
        "sys/fs/cgroup/memory.max": str(GIB),
        "sys/fs/cgroup/memory.current": "0",
    }
    assert make(tmp_path, **files).read().total_bytes == GIB


def test_a_v1_limit_narrows_and_its_no_limit_number_does_not(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/jobs"
    files = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/jobs\n",
        f"{group}/memory.limit_in_bytes": str(2 * GIB),
        f"{group}/memory.usage_in_bytes": str(GIB),
        f"{group}/memory.stat": f"total_inactive_file {GIB // 2}\ninactive_file 7\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
        "sys/fs/cgroup/memory/memory.usage_in_bytes": str(9 * GIB),
    }
    figures = make(tmp_path, **files).read()
    assert (figures.total_bytes, figures.available_bytes) == (2 * GIB, GIB + GIB // 2)


def test_use_over_the_limit_leaves_nothing_and_not_less(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": str(GIB),
        "sys/fs/cgroup/memory.current": str(2 * GIB),
    }
    assert make(tmp_path, **files).read().available_bytes == 0


@pytest.mark.parametrize("text", ["", "garbage", "MemTotal: lots kB\n"])
def test_without_readable_meminfo_the_systems_total_counts(tmp_path: Path, text: str) -> None:
    figures = make(tmp_path, **{"proc/meminfo": text}).read()
    assert figures.total_bytes == figures.available_bytes > 0


CARD = Device("CUDA0", "a card", 20 * GIB, 24 * GIB)


def test_gpus_count_without_what_is_to_be_left_free_on_each(tmp_path: Path) -> None:
    make(tmp_path)
    assert HostMemory(tmp_path, lambda: (CARD, CARD), GIB).read().devices == (DeviceFigures(23 * GIB, 19 * GIB),) * 2
    assert HostMemory(tmp_path, lambda: (CARD,), 99 * GIB).read().devices == (DeviceFigures(0, 0),)


def test_an_integrated_gpu_has_no_more_free_than_the_host(tmp_path: Path) -> None:
    make(tmp_path)
    shared = replace(CARD, shares_host_memory=True)
    assert HostMemory(tmp_path, lambda: (shared,)).read().devices == (DeviceFigures(24 * GIB, 8 * GIB),)


def test_kernels_that_lay_weights_out_are_asked_for(tmp_path: Path) -> None:
    assert not make(tmp_path).read().tiles
    assert HostMemory(tmp_path, tiles=lambda: True).read().tiles
