"""Keeping a store healthy: cleaning at start (`prune_at_start`) and checking everything (`fsck`).

Cleaning never touches what somebody is at work on. Temp files, partial downloads and reservations are locked by
their writers (files.py), finished blobs are protected by a manifest, by a reservation, or by the grace period since
their last touch. Removal happens under the store's lock, which manifests are written under too.
Source of what is removed when: ollama server/images.go PruneLayers, server/fixblobs.go, 2026-08.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

from corral.errors import (
    BlobNotFound,
    CorralError,
    DigestMismatch,
    InvalidGGUF,
    InvalidRequest,
    ModelDamaged,
    ModelNotFound,
)
from corral.gguf import read_header
from corral.names import Digest, ModelName
from corral.store import manifests as media
from corral.store.blobs import RESERVATION_PREFIX, blob_digest
from corral.store.derived import Found, differs, order_for
from corral.store.files import TEMP_PREFIX, is_live, make_directory, remove_if_dead, sync_directory
from corral.store.manifests import Layer, Manifest
from corral.store.modelconfig import ModelConfig
from corral.store.models import ModelStore

_log = logging.getLogger(__name__)

_OWN_TEMPS = (TEMP_PREFIX, RESERVATION_PREFIX)
_GGUF_TYPES = frozenset({media.MODEL, media.PROJECTOR, media.ADAPTER, media.DRAFT})


class Problem(StrEnum):
    """What fsck can find."""

    BAD_MANIFEST = "manifest unreadable"
    BAD_NAME = "manifest under an invalid name"
    MISSING_BLOB = "blob missing"
    WRONG_SIZE = "blob has another size than its manifest says"
    WRONG_DIGEST = "blob does not hash to its name"
    UNREADABLE_BLOB = "blob cannot be read"
    BAD_CONTENT = "blob is not what its layer says"
    UNREFERENCED_BLOB = "blob that no model uses"
    LEFTOVER = "temporary file that nobody is writing"
    BAD_TRANSLATION = "translated file is not what its blob gives"
    OLD_TRANSLATION = "translated file that nobody can use"


HARMLESS = frozenset({Problem.UNREFERENCED_BLOB, Problem.LEFTOVER, Problem.OLD_TRANSLATION})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `file` is relative to the store; `models` are the short names of who is affected."""

    problem: Problem
    file: str
    models: tuple[str, ...] = ()
    detail: str = ""
    repaired: str = ""  # what was done about it, empty when nothing was


@dataclass(frozen=True, slots=True)
class Report:
    """What fsck saw."""

    findings: tuple[Finding, ...]
    models: int
    blobs: int
    bytes_read: int

    @property
    def is_healthy(self) -> bool:
        """Whether every model can be used: nothing worse was found than files nobody needs."""
        return all(finding.problem in HARMLESS for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What cleaning removed; `refused` says why it removed no blobs, empty when it looked at them all."""

    files: tuple[str, ...] = ()
    freed_bytes: int = 0
    refused: str = ""


Progress = Callable[[int, int], None]  # bytes read so far, bytes to read in all


def prune_at_start(store: ModelStore, now_s: float | None = None) -> Pruned:
    """Clean up before serving: rename old blob names, drop dead temp files, then unreferenced blobs over the grace.

    Then translated files whose blob is gone or whose rules are not the present ones. `store.no_prune` leaves everything
    but those and dead temp files of our own. One unreadable manifest, or a manifest under an
    invalid name, stops the removal of blobs: what it refers to is not known. Raises OSError.
    """
    before = (time.time() if now_s is None else now_s) - store.gc_grace_s
    try:
        pruned = _prune_blobs(store, before)
    finally:
        derived = store.derived.prune(store.blobs.has)  # they may be elsewhere, in a place that can be written
    names = tuple(
        str(path.relative_to(store.root)) if path.is_relative_to(store.root) else str(path) for path in derived
    )
    return Pruned(pruned.files + names, pruned.freed_bytes + sum(derived.values()), pruned.refused)


def _prune_blobs(store: ModelStore, before: float) -> Pruned:
    _rename_old_blobs(store)
    with store.blobs.locked():
        if store.no_prune:
            return _remove(store, _temps(store), "")
        refused = store.unreadable_manifest()
        old = [] if refused else list(_removable(store, before))
        pruned = _remove(store, [*_temps(store), *old], refused)
        if not refused:
            _remove_empty_directories(store.manifests.directory)
    if refused:
        _log.warning("no blobs are pruned: %s", refused)
    return pruned


def unused_bytes(store: ModelStore) -> int:
    """What `prune_at_start` without a grace period would free now; 0 where it would refuse. Raises OSError."""
    if store.no_prune or store.unreadable_manifest():
        return 0
    paths = [path for path in (*_temps(store), *_removable(store, time.time())) if not is_live(path)]
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a download has just ended
            total += path.stat().st_size
    return total


def fsck(store: ModelStore, *, repair: bool = False, on_progress: Progress | None = None) -> Report:
    """Read every manifest and every byte of every blob, and report what is wrong.

    With `repair`, bad blobs are moved to `quarantine/` below the store (pulling the model again fetches them anew),
    and so are manifests that cannot be read; dead temp files are deleted, and translated files that are wrong (they are
    made anew when they are needed) or of no use. Unreferenced blobs are left to pruning.
    """
    return _Check(store, repair, on_progress).run()


@dataclass
class _Check:
    """One run of fsck."""

    store: ModelStore
    repair: bool
    on_progress: Progress | None
    findings: list[Finding] = field(default_factory=list)
    users: dict[Digest, list[str]] = field(default_factory=dict)
    bytes_read: int = 0

    def run(self) -> Report:
        manifests = dict(self._manifests())
        for name, manifest in manifests.items():
            for digest in manifest.digests:
                self.users.setdefault(digest, []).append(name.short)
        bad = self._check_blobs()
        for name, manifest in manifests.items():
            self._check_model(name, manifest, bad)
        self._check_leftovers()
        self._check_derived(bad)
        blobs = len(self.store.blobs.digests())
        return Report(tuple(self.findings), len(manifests), blobs, self.bytes_read)

    def _manifests(self) -> Iterator[tuple[ModelName, Manifest]]:
        for path in self.store.manifests.files():
            name = ModelName.from_path(path)
            if name is None:
                self._add(Problem.BAD_NAME, f"manifests/{path}", repaired=self._quarantine(f"manifests/{path}"))
                continue
            try:
                yield name, self.store.manifests.read(name)
            except ModelNotFound:
                continue  # removed meanwhile
            except ModelDamaged as error:
                done = self._quarantine(f"manifests/{path}")
                self._add(Problem.BAD_MANIFEST, f"manifests/{path}", (name.short,), error.why, done)

    def _check_blobs(self) -> set[Digest]:
        """Hash all blobs; returns those that are bad."""
        blobs = self.store.blobs
        sizes = {digest: blobs.size(digest) for digest in blobs.digests()}
        total, bad = sum(sizes.values()), set()
        for digest, size in sizes.items():
            problem, detail = Problem.WRONG_DIGEST, ""
            try:
                blobs.verify(digest)
            except BlobNotFound:
                continue  # removed meanwhile
            except DigestMismatch as error:
                detail = f"hashes to {error.got}"
            except OSError as error:
                problem, detail = Problem.UNREADABLE_BLOB, error.strerror or ""
            else:
                self._check_use(digest)
                self._progress(size, total)
                continue
            bad.add(digest)
            users = tuple(self.users.get(digest, ()))
            self._add(problem, f"blobs/{digest.filename}", users, detail, self._quarantine(f"blobs/{digest.filename}"))
            self._progress(size, total)
        return bad

    def _check_use(self, digest: Digest) -> None:
        if digest not in self.users:
            self._add(Problem.UNREFERENCED_BLOB, f"blobs/{digest.filename}")

    def _check_model(self, name: ModelName, manifest: Manifest, bad: set[Digest]) -> None:
        before = len(self.findings)
        for layer in manifest.all_layers:
            if layer.digest not in bad:
                self._check_layer(
                    name, layer, is_gguf=layer.media_type in _GGUF_TYPES and self._is_gguf_model(manifest)
                )
        if len(self.findings) > before or not bad.isdisjoint(manifest.digests):
            return
        try:
            self.store.load(name)
        except (ModelDamaged, ModelNotFound) as error:
            self._add(Problem.BAD_CONTENT, f"manifests/{name.path}", (name.short,), str(error))

    def _check_layer(self, name: ModelName, layer: Layer, *, is_gguf: bool) -> None:
        file, users = f"blobs/{layer.digest.filename}", (name.short,)
        try:
            size = self.store.blobs.size(layer.digest)
            if size != layer.size:
                self._add(Problem.WRONG_SIZE, file, users, f"{size} bytes instead of {layer.size}")
            elif is_gguf:
                read_header(self.store.blobs.path(layer.digest))
        except BlobNotFound:
            self._add(Problem.MISSING_BLOB, file, users)
        except InvalidGGUF as error:
            self._add(Problem.BAD_CONTENT, file, users, str(error))
        except OSError as error:
            self._add(Problem.UNREADABLE_BLOB, file, users, error.strerror or "")

    def _is_gguf_model(self, manifest: Manifest) -> bool:
        if manifest.config is None:
            return True
        with contextlib.suppress(CorralError):
            return ModelConfig.parse(self.store.blobs.read(manifest.config.digest, 2**20)).is_gguf
        return False

    def _check_leftovers(self) -> None:
        for path in [*_temps(self.store), *_partials_and_strangers(self.store)]:
            if is_live(path) or not path.is_file():
                continue
            done = ""
            if self.repair and path.name.startswith(_OWN_TEMPS) and remove_if_dead(path) is not None:
                done = "deleted"
            self._add(Problem.LEFTOVER, str(path.relative_to(self.store.root)), repaired=done)

    def _check_derived(self, bad: set[Digest]) -> None:
        """Make every translated file again, in memory, and compare."""
        for found in self.store.derived.files():
            if found.is_partial and is_live(found.path):
                continue
            users = tuple(self.users.get(found.digest, ())) if found.digest else ()
            if not found.is_wanted(self.store.blobs.has):
                self._drop(Problem.OLD_TRANSLATION, found.path, users)
            elif found.digest not in bad and (detail := self._derived_differs(found)):
                self._drop(Problem.BAD_TRANSLATION, found.path, users, detail)

    def _derived_differs(self, found: Found) -> str:
        """What is wrong with a translated file; "" when it is what its blob gives."""
        assert found.digest is not None
        assert found.part is not None
        try:
            self.bytes_read += found.path.stat().st_size
            order = order_for(read_header(self.store.blobs.path(found.digest)), found.part)
            if order is None:
                return "its blob needs none"
            return "other bytes" if differs(found.path, order) else ""
        except (CorralError, OSError) as error:
            return str(error)

    def _drop(self, problem: Problem, path: Path, users: tuple[str, ...], detail: str = "") -> None:
        done = "deleted" if self.repair and remove_if_dead(path) is not None else ""
        root = self.store.root
        file = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        self._add(problem, file, users, detail, done)

    def _quarantine(self, file: str) -> str:
        if not self.repair:
            return ""
        source, target = self.store.root / file, self.store.root / "quarantine" / PurePosixPath(file)
        with self.store.blobs.locked():
            make_directory(target.parent)
            source.replace(target)
            sync_directory(source.parent)
        return f"moved to quarantine/{file}"

    def _add(
        self, problem: Problem, file: str, models: tuple[str, ...] = (), detail: str = "", repaired: str = ""
    ) -> None:
        self.findings.append(Finding(problem, file, models, detail, repaired))

    def _progress(self, size: int, total: int) -> None:
        self.bytes_read += size
        if self.on_progress is not None:
            self.on_progress(self.bytes_read, total)


def _rename_old_blobs(store: ModelStore) -> None:
    """Early Ollama wrote `sha256:<hex>`."""
    for file_name in store.blobs.file_names():
        if file_name.startswith("sha256:"):
            with contextlib.suppress(InvalidRequest):
                target = store.blobs.path(Digest.parse(file_name))
                (store.blobs.directory / file_name).replace(target)


def _temps(store: ModelStore) -> list[Path]:
    """Our own temp files; unlocked means dead."""
    places = (store.blobs.directory, store.manifests.directory)
    return [
        path
        for place in places
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.name.startswith(_OWN_TEMPS) and path.is_file()
    ]


def _partials_and_strangers(store: ModelStore) -> list[Path]:
    """Files in the blobs directory that are neither blobs nor temp files of ours."""
    return [
        store.blobs.directory / name
        for name in store.blobs.file_names()
        if not name.startswith(_OWN_TEMPS) and blob_digest(name) is None
    ]


def _removable(store: ModelStore, before: float) -> Iterator[Path]:
    """What nothing speaks for and nobody touched since `before`: partials and strangers, unreferenced blobs."""
    reserved = store.blobs.reserved()
    kept = store.referenced() | reserved
    families: dict[Digest | str, list[Path]] = {}  # a partial and its side files live and die together
    for path in _partials_and_strangers(store):
        families.setdefault(_partial_owner(path.name) or path.name, []).append(path)
    for owner, paths in families.items():
        if owner not in reserved and all(_is_untouched(path, before) and not is_live(path) for path in paths):
            yield from paths
    for digest in store.blobs.digests():
        path = store.blobs.path(digest)
        if digest not in kept and _is_untouched(path, before):
            yield path


def _is_untouched(path: Path, before: float) -> bool:
    """Whether the file is there and older than `before`; downloads finish and take other names meanwhile."""
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False


def _partial_owner(file_name: str) -> Digest | None:
    """The digest a partial file or one of its side files (`-partial-3`) belongs to."""
    stem, mark, _ = file_name.partition("-partial")
    return blob_digest(stem) if mark else None


def _remove(store: ModelStore, paths: list[Path], refused: str) -> Pruned:
    sizes = {path: remove_if_dead(path) for path in paths}
    removed = {path: size for path, size in sizes.items() if size is not None}
    return Pruned(tuple(str(path.relative_to(store.root)) for path in removed), sum(removed.values()), refused)


def _remove_empty_directories(directory: Path) -> None:
    if not directory.is_dir():
        return
    for child in [entry for entry in directory.iterdir() if entry.is_dir() and not entry.is_symlink()]:
        _remove_empty_directories(child)
        with contextlib.suppress(OSError):  # not empty
            child.rmdir()
