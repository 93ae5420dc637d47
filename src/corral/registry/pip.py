"""Wheels through the user's own pip: its indexes, proxies, certificates and logins. A child process; used by pypi.py.

Only wheels are taken, never source distributions: those run code. Nothing is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from corral.aio import run_settled
from corral.errors import RegistryError

_STOP_S = 5.0
_LOOK_EVERY_S = 0.06
_LAST_LINES = 20
_MAX_REPORT_BYTES = 16 * 2**20
_MAX_LINE_BYTES = 2**20
_QUIET = ("--no-input", "--disable-pip-version-check", "--no-color", "--progress-bar", "off")
_WHEELS_ONLY = ("--no-deps", "--only-binary", ":all:")
_ANNOUNCED = re.compile(r"\s*(?:Downloading|Using cached) \S+ \(([\d.]+) (bytes|kB|MB|GB)\)")
_UNITS = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True, slots=True)
class Found:
    """The wheel that pip would take; `sha256` is empty where the index gives none."""

    distribution: str
    version: str
    sha256: str = ""

    @property
    def requirement(self) -> str:
        """Exactly this one."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of a wheel so far; `total` is what pip announced, rounded by pip, 0 while unknown."""

    completed: int
    total: int


class _Metadata(msgspec.Struct):
    name: str
    version: str


class _ArchiveInfo(msgspec.Struct):
    hashes: dict[str, str] = {}


class _DownloadInfo(msgspec.Struct):
    archive_info: _ArchiveInfo = msgspec.field(default_factory=_ArchiveInfo)


class _Item(msgspec.Struct):
    metadata: _Metadata
    download_info: _DownloadInfo = msgspec.field(default_factory=_DownloadInfo)


class _Report(msgspec.Struct):
    install: list[_Item]


async def find(requirement: str, folder: Path) -> Found:
    """What pip would download for a requirement; raises RegistryError with pip's own words when there is nothing."""
    report = folder / "report.json"
    arguments = ("install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report), requirement)
    async with _pip(folder, *arguments) as child:
        await child.wait()
    data = await run_settled(_read_report, report)
    try:
        items = msgspec.json.decode(data, type=_Report).install
        item = items[0]
    except (msgspec.DecodeError, IndexError) as error:
        raise RegistryError(f"pip's report on {requirement} cannot be read: {error}") from error
    return Found(item.metadata.name, item.metadata.version, item.download_info.archive_info.hashes.get("sha256", ""))


def _read_report(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_REPORT_BYTES)


async def download(requirement: str, folder: Path) -> AsyncGenerator[Progress, None]:
    """Download one wheel into `folder`, which should be empty; its progress about every 60 ms.

    Raises RegistryError with pip's own words. Leaving the iterator early ends pip.
    """
    async with _pip(folder, "download", "--dest", str(folder), requirement) as child:
        while not await child.has_ended(_LOOK_EVERY_S):
            yield Progress(await run_settled(_largest_wheel, folder), child.announced)
        await child.wait()
    size = await run_settled(_largest_wheel, folder)
    yield Progress(size, size)


def _largest_wheel(folder: Path) -> int:
    """The size of the biggest wheel anywhere below: pip writes it to its temp folder, then copies it."""
    sizes = [0]
    for place, _, names in os.walk(folder):  # does not mind folders that pip removes meanwhile
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(FileNotFoundError):
                    sizes.append(Path(place, name).stat().st_size)
    return max(sizes)


@asynccontextmanager
async def _pip(folder: Path, command: str, *arguments: str) -> AsyncIterator[_Child]:
    """Pip as a child in a process group of its own; it has ended and is reaped when the block is left."""
    # Everything pip writes for a while goes to `folder`, on the store's disk: /tmp may be small, and in memory. It
    # also runs there, isolated: in the server's folder a file or a module could be taken for what was asked for.
    launch = ("env", f"TMPDIR={folder}", sys.executable, "-I", "-m", "pip", command)
    process = await asyncio.create_subprocess_exec(
        *launch,
        *_QUIET,
        *_WHEELS_ONLY,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        start_new_session=True,
        limit=_MAX_LINE_BYTES,
    )
    child = _Child(process)
    try:
        yield child
    finally:
        await child.stop()


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.announced = 0  # bytes of the wheel, as pip's output says
        self._process = process
        self._errors: deque[str] = deque(maxlen=_LAST_LINES)
        self._end = asyncio.ensure_future(self._run())

    async def has_ended(self, timeout_s: float) -> bool:
        """Wait for the end, for so long."""
        await asyncio.wait({self._end}, timeout=timeout_s)
        return self._end.done()

    async def wait(self) -> None:
        """Wait for the end; raises RegistryError when pip failed."""
        code = await asyncio.shield(self._end)
        if code:
            raise RegistryError(f"pip: {self._reason() or f'exit status {code}'}")

    async def stop(self) -> None:
        """Ask, then kill; returns when the child is reaped."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            if self._end.done():
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)
            await asyncio.wait({self._end}, timeout=_STOP_S)

    async def _run(self) -> int:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        await asyncio.gather(self._read_output(self._process.stdout), self._read_errors(self._process.stderr))
        return await self._process.wait()

    async def _read_output(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            match = _ANNOUNCED.match(line.decode("utf-8", "replace"))
            if match:
                self.announced = int(float(match[1]) * _UNITS[match[2]])

    async def _read_errors(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self._errors.append(line.decode("utf-8", "replace").strip())

    def _reason(self) -> str:
        said = [line.removeprefix("ERROR: ") for line in self._errors if line.startswith("ERROR: ")]
        return said[-1] if said else next((line for line in reversed(self._errors) if line), "")
