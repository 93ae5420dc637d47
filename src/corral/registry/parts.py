"""The parts of a blob in download, and how they are remembered on disk: `<blob>-partial-<N>`, a JSON file a part.

Ollama's own format, so either server resumes what the other began. The files are not trusted: whatever does not fit
the blob is dropped and its bytes fetched again. Used by transfer.py.
Source: ollama server/download.go blobDownloadPart, 2026-08.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

_RECORD_BYTES = 160  # four 20-digit numbers and their keys fit; written in place, so always of one length
_SMALLEST_PART_BYTES = 32 * 2**20
_LARGEST_PART_BYTES = 1000 * 10**6
_AIM = 64  # parts of a big blob: the later ones are hashed last, so small ones keep the last stretch short


@dataclass(slots=True)
class Part:
    """A range of the blob, `completed` bytes of which are in the file; all in bytes."""

    number: int
    offset: int
    size: int
    completed: int = 0

    @property
    def start(self) -> int:
        """Where the next byte goes."""
        return self.offset + self.completed

    @property
    def end(self) -> int:
        """One after its last byte."""
        return self.offset + self.size

    @property
    def is_done(self) -> bool:
        """Whether all its bytes are there."""
        return self.completed >= self.size


class _Record(msgspec.Struct):
    N: int
    Offset: int
    Size: int
    Completed: int


def plan(total: int, *, streams: int) -> list[Part]:
    """Parts for a blob of `total` bytes; one when a single stream fetches it."""
    if streams <= 1:
        return [Part(0, 0, total)]
    size = min(_LARGEST_PART_BYTES, max(_SMALLEST_PART_BYTES, -(-total // _AIM)))
    return [Part(number, offset, min(size, total - offset)) for number, offset in enumerate(range(0, total, size))]


def load(partial: Path, total: int, *, streams: int) -> list[Part]:
    """The remembered parts of a partial file, made to cover the blob exactly; fresh ones where nothing is left."""
    try:
        on_disk = partial.stat().st_size
    except FileNotFoundError:
        on_disk = 0
    records = sorted(
        (record for path in _files(partial) if (record := _read(path)) is not None),
        key=lambda record: (record.Offset, -record.Completed),
    )
    kept: list[Part] = []
    for record in records:
        end = kept[-1].end if kept else 0
        if record.Offset < end or record.Size <= 0 or record.Offset + record.Size > total:
            continue
        completed = max(0, min(record.Completed, record.Size, on_disk - record.Offset))
        kept.append(Part(0, record.Offset, record.Size, completed))
    if not any(part.completed for part in kept):
        return plan(total, streams=streams)
    return _cover(kept, total)


def save(partial: Path, part: Part) -> None:
    """Remember a part. One write of a fixed length in place: a kill leaves the old record or the new one."""
    record = msgspec.json.encode(_Record(part.number, part.offset, part.size, part.completed))
    fd = os.open(_path(partial, part.number), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(fd, record.ljust(_RECORD_BYTES), 0)
    finally:
        os.close(fd)


def save_all(partial: Path, parts: list[Part]) -> None:
    """Remember these parts and no others."""
    for part in parts:
        save(partial, part)
    current = {_path(partial, part.number) for part in parts}
    for path in _files(partial):
        if path not in current:
            path.unlink(missing_ok=True)


def forget(partial: Path) -> None:
    """Delete all part files of a partial file."""
    for path in _files(partial):
        path.unlink(missing_ok=True)


def _cover(kept: list[Part], total: int) -> list[Part]:
    parts: list[Part] = []
    position = 0
    for part in [*kept, Part(0, total, 0)]:
        if part.offset > position:
            parts.append(Part(len(parts), position, part.offset - position))
        if part.size:
            parts.append(Part(len(parts), part.offset, part.size, part.completed))
        position = part.end
    return parts


def _path(partial: Path, number: int) -> Path:
    return partial.with_name(f"{partial.name}-{number}")


def _files(partial: Path) -> list[Path]:
    return [path for path in partial.parent.glob(f"{partial.name}-*") if path.name[len(partial.name) + 1 :].isdecimal()]


def _read(path: Path) -> _Record | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(4096), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None
