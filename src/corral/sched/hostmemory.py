"""What the host has: /proc/meminfo, narrowed by the limits of every cgroup (v1 or v2) that this process is in.

Blocking reads of small kernel files; the scheduler calls `HostMemory.read` through `aio.run_blocking`. A file that is
missing or unreadable narrows nothing. Where there is no /proc/meminfo at all (macOS), os.sysconf gives the total, and
all of it counts as available: an estimate that refuses nothing wrongly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.config import Settings
from corral.runner.devices import Device
from corral.runner.hostload import usable_cores
from corral.runner.launch import LocalLauncher
from corral.sched.memory import DeviceFigures, HostFigures

_UNLIMITED = 2**60  # cgroup v1 writes its "no limit" as a number near 2**63


def _no_devices() -> tuple[Device, ...]:
    return ()


def _no_tiles() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Reads the figures. root: where / is (tests have their own).

    devices: asks for the GPUs, blocking, for seconds the first time; overhead_bytes: what to leave free on each.
    tiles: asks whether the kernels lay weights out for AMX.
    """

    root: Path = Path("/")
    devices: Callable[[], tuple[Device, ...]] = _no_devices
    overhead_bytes: int = 0
    tiles: Callable[[], bool] = _no_tiles

    @classmethod
    def of(cls, launcher: LocalLauncher, settings: Settings) -> HostMemory:
        """Of the machine where this launcher's runners are."""
        return cls(devices=launcher.devices.read, overhead_bytes=settings.gpu_overhead_bytes, tiles=launcher.has_tiles)

    def read(self) -> HostFigures:
        """Total and available bytes for this process and its children, the devices', and its cores."""
        total, available = self._meminfo()
        for limit, used in self._cgroups():
            total = min(total, limit)
            available = min(available, max(0, limit - used))
        devices = (self._figures(device, available) for device in self.devices())
        return HostFigures(total, available, tuple(devices), usable_cores(), self.tiles())

    def _figures(self, device: Device, available: int) -> DeviceFigures:
        """Both without the overhead. Source: ollama OLLAMA_GPU_OVERHEAD (spec native-api 3.2), server/sched.go."""
        free = min(device.free_bytes, available) if device.shares_host_memory else device.free_bytes
        return DeviceFigures(max(0, device.total_bytes - self.overhead_bytes), max(0, free - self.overhead_bytes))

    def _meminfo(self) -> tuple[int, int]:
        fields: dict[str, int] = {}
        for line in self._text("proc/meminfo").splitlines():
            name, _, rest = line.partition(":")
            number = rest.split()
            if number and number[0].isdecimal():
                fields[name] = int(number[0]) * 1024
        if "MemTotal" not in fields:
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            return total, total
        free = fields.get("MemFree", 0) + fields.get("Buffers", 0) + fields.get("Cached", 0)
        return fields["MemTotal"], fields.get("MemAvailable", free)

    def _cgroups(self) -> Iterator[tuple[int, int]]:
        """(limit, used) of this process's memory cgroup and all above it; used without reclaimable file pages."""
        for line in self._text("proc/self/cgroup").splitlines():
            _, controllers, path = (*line.split(":", 2), "", "")[:3]
            if controllers == "":
                yield from self._walk("sys/fs/cgroup", path, "memory.max", "memory.current", "")
            elif "memory" in controllers.split(","):
                files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
                yield from self._walk("sys/fs/cgroup/memory", path, *files)

    def _walk(self, mount: str, path: str, limit_file: str, usage_file: str, prefix: str) -> Iterator[tuple[int, int]]:
        # In a container the path is often the host's and not below the mount; then the mount itself is ours.
        parts = [part for part in path.split("/") if part not in {"", ".."}]
        for depth in range(len(parts), -1, -1):
            folder = "/".join([mount, *parts[:depth]])
            limit = self._text(f"{folder}/{limit_file}").strip()
            used = self._text(f"{folder}/{usage_file}").strip()
            if limit.isdecimal() and used.isdecimal() and int(limit) < _UNLIMITED:
                yield int(limit), max(0, int(used) - self._reclaimable(folder, prefix))

    def _reclaimable(self, folder: str, prefix: str) -> int:
        names = {f"{prefix}inactive_file", f"{prefix}active_file"}
        pairs = (line.split() for line in self._text(f"{folder}/memory.stat").splitlines())
        return sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in names and pair[1].isdecimal())

    def _text(self, name: str) -> str:
        try:
            return (self.root / name).read_text()
        except (OSError, UnicodeDecodeError):
            return ""
