"""`DerivedStore`: models' files written anew for the engine (corral.translate), apart from the blobs they come from.

    <root>/sha256-<hex>/<rules version>/text.gguf            what the engine opens instead of this blob
                                        projector.gguf       the eyes and ears that are inside the same blob
                                        text.gguf-partial    being made; locked by its maker, whatever process that is

There are several roots, the most wanted first: beside the blobs, and below Corral's home for stores that belong to
somebody else. A file appears whole or not at all: a maker writes the partial, makes it durable and renames it while it
holds the partial's lock. One that is killed leaves an unlocked partial, which the next maker begins anew and cleaning
removes. A translation follows from the blob and the rules alone, so all names of a blob share it, and `differs` proves
one by making it again. Blocking; called through aio. Where the choice of places comes from: ADR 15.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from corral.errors import BlobNotFound, InvalidRequest, NotEnoughSpace
from corral.gguf import GGUFHeader
from corral.names import Digest
from corral.store.blobs import blob_digest
from corral.store.files import (
    FILE_MODE,
    free_bytes,
    full_disk_as_error,
    has_name,
    locked_directory,
    make_directory,
    remove_if_dead,
    sync_directory,
    try_lock,
)
from corral.translate import RULES_VERSION, Translation, recognize, write

OnBytes = Callable[[int], None]  # bytes so far; what it raises ends the making
Pause = Callable[[], None]  # while another process is the maker; what it raises ends the waiting

_SUFFIX = ".gguf"
_PARTIAL = "-partial"
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}


class Part(StrEnum):
    """Which of the files that a blob gives."""

    TEXT = "text"
    PROJECTOR = "projector"


@dataclass(frozen=True)
class Order:
    """A file that the engine needs instead of `source`, a blob, and what it will be."""

    source: Path
    part: Part
    plan: Translation

    @property
    def size_bytes(self) -> int:
        """Of the file to be."""
        return self.plan.size_bytes


def order_for(header: GGUFHeader, part: Part) -> Order | None:
    """What the engine needs instead of this blob; None when it opens the blob itself, or the blob has no such part.

    Raises UntranslatableModel, InvalidGGUF, OSError.
    """
    layout = recognize(header)
    if layout is None:
        return None
    plan = layout.text_plan() if part is Part.TEXT else layout.projector_plan()
    return None if plan is None else Order(header.path, part, plan)


@dataclass(frozen=True, slots=True)
class Found:
    """A file below a root, as cleaning and fsck see it. `digest` and `part` are None for names that are not ours."""

    path: Path
    digest: Digest | None = None
    part: Part | None = None
    version: str = ""

    @property
    def is_partial(self) -> bool:
        """Whether it was being made."""
        return self.path.name.endswith(_PARTIAL)

    def is_wanted(self, has_blob: Callable[[Digest], bool]) -> bool:
        """Whether it is a finished file, by the present rules, of a blob that is there."""
        if self.digest is None or self.part is None or self.is_partial:
            return False
        return self.version == str(RULES_VERSION) and has_blob(self.digest)


class DerivedStore:
    """The translated files below one or more roots; the directories are made on first write."""

    def __init__(self, *roots: Path) -> None:
        self.roots = roots

    def find(self, order: Order) -> Path | None:
        """The finished file of an order; None when there is none, or none of its size."""
        for root in self.roots:
            path = _folder(root, order.source) / f"{order.part}{_SUFFIX}"
            with contextlib.suppress(OSError):
                if path.stat().st_size == order.size_bytes:
                    return path
        return None

    def make(self, order: Order, on_bytes: OnBytes, pause: Pause, *, more_bytes: int = 0) -> Path:
        """The file of an order, made in the first root that can be written and has room, unless it is there already.

        `more_bytes` is what will be made besides: room for one half of a model is no room.
        Raises NotEnoughSpace (with the room of the roomiest root), UntranslatableModel, BlobNotFound when the blob was
        removed meanwhile, OSError, and what `on_bytes` and `pause` raise. Nothing stays behind after an error.
        """
        best: NotEnoughSpace | None = None
        for root in self.roots:
            try:
                return self._make_in(root, order, on_bytes, pause, order.size_bytes + more_bytes)
            except NotEnoughSpace as error:
                if best is None or error.free_bytes > best.free_bytes:
                    best = error
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise
        raise best or NotEnoughSpace(order.size_bytes + more_bytes, 0)

    def _make_in(self, root: Path, order: Order, on_bytes: OnBytes, pause: Pause, need_bytes: int) -> Path:
        folder = _folder(root, order.source)
        target = folder / f"{order.part}{_SUFFIX}"
        growing = target.with_name(f"{target.name}{_PARTIAL}")
        while (found := self.find(order)) is None:
            make_directory(folder)
            try:
                fd = os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            except FileNotFoundError:
                continue  # somebody's cleaning took the directory while it was empty
            with os.fdopen(fd, "wb") as file:
                if not try_lock(file):
                    pause()
                elif has_name(file, growing):  # else it was finished or cleaned up before we had the lock
                    return _write(order, file, growing, target, on_bytes, need_bytes)
        return found

    def remove(self, digest: Digest) -> None:
        """Delete what was made of a blob, but for what is being made: its maker finds the blob gone and deletes it."""
        for root in self.roots:
            _clear(root / digest.filename, lambda _: True)

    def files(self) -> Iterator[Found]:
        """Every file below the roots."""
        for root in self.roots:
            for path in sorted(root.rglob("*")) if root.is_dir() else ():
                if path.is_file():
                    yield _found(root, path)

    def prune(self, has_blob: Callable[[Digest], bool]) -> dict[Path, int]:
        """Delete what nobody can use: of blobs that are gone, by other rules, left behind by makers that were killed.

        Returns what was deleted, with its size. Roots that cannot be written are left as they are.
        """
        removed: dict[Path, int] = {}
        for root in self.roots:
            with contextlib.suppress(OSError):
                removed |= _clear(root, partial(_is_unwanted, root, has_blob))
        return removed


def differs(path: Path, order: Order, on_bytes: OnBytes = lambda _: None) -> bool:
    """Whether a finished file is anything but what its order gives; reads both. Raises as `make` does."""
    with path.open("rb") as file:
        try:
            write(order.source, order.plan, cast("BinaryIO", _Comparing(file)), on_bytes)
        except _Different:
            return True
        return bool(file.read(1))


class _Different(Exception):
    """The file is not what was to be written."""


class _Comparing(io.RawIOBase):
    """Takes what is written and compares it with a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Compare; raises _Different."""
        if self._file.read(len(data)) != data:
            raise _Different
        return len(data)


def _folder(root: Path, source: Path) -> Path:
    """Where the files of a blob are by the present rules; raises InvalidRequest for a path that is no blob's."""
    return root / Digest.parse(source.name).filename / str(RULES_VERSION)


def _write(order: Order, file: BinaryIO, growing: Path, target: Path, on_bytes: OnBytes, need_bytes: int) -> Path:
    """Fill the locked partial and give it its name."""
    try:
        os.ftruncate(file.fileno(), 0)
        os.fchmod(file.fileno(), FILE_MODE)
        free = free_bytes(target.parent)
        if need_bytes > free:
            raise NotEnoughSpace(need_bytes, free)
        with full_disk_as_error(target.parent, order.size_bytes):
            write(order.source, order.plan, file, on_bytes)
            file.flush()
            os.fsync(file.fileno())
        with locked_directory(order.source.parent):  # removals of blobs hold it
            if not order.source.exists():
                raise BlobNotFound(str(Digest.parse(order.source.name)))
            growing.replace(target)
        sync_directory(target.parent)
    except BaseException as error:
        growing.unlink(missing_ok=True)
        _remove_empty(target.parent, target.parents[3])
        if isinstance(error, FileNotFoundError) and not order.source.exists():
            raise BlobNotFound(str(Digest.parse(order.source.name))) from error
        raise
    return target


def _is_unwanted(root: Path, has_blob: Callable[[Digest], bool], path: Path) -> bool:
    return not _found(root, path).is_wanted(has_blob)


def _found(root: Path, path: Path) -> Found:
    parts = path.relative_to(root).parts
    stem = path.name.removesuffix(_PARTIAL).removesuffix(_SUFFIX)
    if len(parts) != 3 or stem not in set(Part) or not path.name.removesuffix(_PARTIAL).endswith(_SUFFIX):
        return Found(path)
    with contextlib.suppress(InvalidRequest):
        return Found(path, blob_digest(parts[0]), Part(stem), parts[1])
    return Found(path)


def _clear(folder: Path, is_doomed: Callable[[Path], bool]) -> dict[Path, int]:
    """Delete files that are doomed and that nobody writes, and the directories that are empty then."""
    removed: dict[Path, int] = {}
    for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()
        elif is_doomed(path):
            with contextlib.suppress(PermissionError):
                size = remove_if_dead(path)
                removed |= {} if size is None else {path: size}
    with contextlib.suppress(OSError):
        folder.rmdir()
    return removed


def _remove_empty(folder: Path, kept: Path) -> None:
    while folder != kept:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
