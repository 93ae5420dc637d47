"""Models as one OCI archive, for machines without a network. `corral export` writes it, `corral import` reads it.

An archive is a tar file with an OCI image layout: `oci-layout`, `index.json`, and `blobs/sha256/<hex>` with the
manifests, configs and layers, each once (ADR 29). A model's name is its index entry's annotation
`org.opencontainers.image.ref.name`. The same models give the same bytes: members in a fixed order, without times and
owners. Small members come first, so that a reader knows what there is before the first gigabyte.

Reading takes nothing for granted: members are regular files of these names and nothing else, each blob is hashed on its
way into the store, and a manifest gets its name only when all that it lists is there.
Source: OCI image-spec 1.1 image-layout.md and annotations.md. Plain blocking code.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from corral.errors import CorralError, DigestMismatch, InvalidModelName, InvalidRequest
from corral.jsonbudget import PartBudget
from corral.names import Digest, ModelName
from corral.regular import open_regular
from corral.store.files import full_disk_as_error, open_temp, sync_directory
from corral.store.manifests import MANIFEST_MEDIA_TYPE, MAX_MANIFEST_BYTES, Manifest
from corral.store.models import ModelStore

REF_NAME = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_LAYOUT_MEMBER, _INDEX_MEMBER = "oci-layout", "index.json"
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})\Z")
_FOLDERS = frozenset({"blobs", "blobs/sha256", "."})
_MOST_MODELS = 1000
_MOST_MANIFEST_BYTES = 64 * 2**20  # of all models of an archive together; most have a kilobyte each
_MOST_MEMBERS = 50_000
_CHUNK_BYTES = 2**20
_MOST_AT_ONCE = MAX_MANIFEST_BYTES + _CHUNK_BYTES

T = TypeVar("T")
V = TypeVar("V")
OnBytes = Callable[[int, int], object]  # (so far, in all)


class ArchiveRefused(CorralError):
    """A file that is no archive of models, or holds what none may hold."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the archive cannot be taken: {why}")
        self.why = why


@dataclass(frozen=True, slots=True)
class Taken:
    """A model that came out of an archive."""

    name: ModelName
    digest: Digest
    size_bytes: int


# ---- writing


def export(store: ModelStore, names: Sequence[ModelName], target: Path, on_bytes: OnBytes | None = None) -> int:
    """Write these models to a new file, whole or not at all; its size in bytes.

    Raises ModelNotFound, ModelDamaged, BlobMissing, NotEnoughSpace, DigestMismatch for a blob that is damaged.
    """
    manifests = [(name, store.manifests.read(name)) for name in sorted(names, key=lambda name: name.full)]
    digests = {digest for _, manifest in manifests for digest in manifest.digests}
    sizes = {digest: store.blobs.size(digest) for digest in digests}
    temporary, file = open_temp(target.parent)
    try:
        with full_disk_as_error(target.parent, sum(sizes.values())), file:
            _write(file, store, manifests, sizes, on_bytes or (lambda done, total: None))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
            temporary.replace(target)
        sync_directory(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size


def _write(
    file: IO[bytes],
    store: ModelStore,
    manifests: Sequence[tuple[ModelName, Manifest]],
    sizes: dict[Digest, int],
    on_bytes: OnBytes,
) -> None:
    total, done = sum(sizes.values()), 0
    raws = {manifest.digest_hex: manifest.raw for _, manifest in manifests}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, _LAYOUT_MEMBER, _LAYOUT)
        _add(tar, _INDEX_MEMBER, _index(manifests))
        for digest_hex in sorted(raws):
            _add(tar, f"blobs/sha256/{digest_hex}", raws[digest_hex])
        for digest, size in sorted(sizes.items(), key=lambda pair: (pair[1], pair[0].hex)):
            with open_regular(store.blobs.path(digest)) as blob:
                reader = _Checked(blob, digest)
                tar.addfile(_member(f"blobs/sha256/{digest.hex}", size), reader)
            reader.check()
            done += size
            on_bytes(done, total)


def _index(manifests: Sequence[tuple[ModelName, Manifest]]) -> bytes:
    entries = [
        {
            "mediaType": MANIFEST_MEDIA_TYPE,
            "digest": f"sha256:{manifest.digest_hex}",
            "size": len(manifest.raw),
            "annotations": {REF_NAME: name.full},
        }
        for name, manifest in manifests
    ]
    document = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries}
    return json.dumps(document, separators=(",", ":")).encode()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_member(name, len(data)), io.BytesIO(data))


class _Checked(io.RawIOBase):
    """A blob's file, hashed as it is read."""

    def __init__(self, file: IO[bytes], digest: Digest) -> None:
        self._file = file
        self._digest = digest
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def check(self) -> None:
        """Raises DigestMismatch."""
        if self._hash.hexdigest() != self._digest.hex:
            raise DigestMismatch(str(self._digest), f"sha256:{self._hash.hexdigest()}")


# ---- reading


def import_archive(store: ModelStore, source: Path, on_bytes: OnBytes | None = None) -> Iterator[Taken]:
    """Take every model of an archive; each counts as there when it is yielded.

    Raises ArchiveRefused, DigestMismatch, NotEnoughSpace; models that were yielded before stay, what is left of others
    goes with the next cleaning. Archives that other programs wrote are taken where they hold models.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(source))
        total = os.fstat(file.fileno()).st_size
        try:
            tar = stack.enter_context(tarfile.open(fileobj=_Sparing(file), mode="r:"))
            reader = _Reader(store, tar, lambda: (on_bytes or (lambda done, total: None))(file.tell(), total))
            stack.enter_context(store.blobs.reserve(reader.find()))
            reader.take_blobs()
        except (tarfile.TarError, EOFError, OverflowError) as error:
            raise ArchiveRefused(f"it is no tar file, or a broken one ({error})") from error
        yield from reader.name_models()


class _Sparing(io.RawIOBase):
    """An archive's file, of which no more is read at once than a manifest may have: heads may claim any size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Raises ArchiveRefused."""
        if not 0 <= size <= _MOST_AT_ONCE:
            raise ArchiveRefused("the head of a member is too large")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._file.tell()

    def seekable(self) -> bool:
        """It is a regular file."""
        return True


class _Reader:
    """One archive: found out about in a first pass over its members' heads, taken in a second."""

    def __init__(self, store: ModelStore, tar: tarfile.TarFile, on_progress: Callable[[], object]) -> None:
        self._store = store
        self._tar = tar
        self._on_progress = on_progress
        self._members: dict[str, tarfile.TarInfo] = {}  # by blob's hex
        self._models: list[tuple[ModelName, Manifest]] = []

    def find(self) -> set[Digest]:
        """The blobs of all models, after a look at every member's head."""
        index: tarfile.TarInfo | None = None
        for count, member in enumerate(self._tar, start=1):
            if count > _MOST_MEMBERS:
                raise ArchiveRefused(f"it has more than {_MOST_MEMBERS} members")
            name = member.name.removeprefix("./").rstrip("/") or "."
            if member.isdir() and name in _FOLDERS:
                continue
            if not member.isreg() or member.issparse():
                raise ArchiveRefused(f"{name[:100]!r} is no regular file")
            if name == _INDEX_MEMBER:
                index = member
            elif (found := _BLOB.match(name)) is not None:
                self._members.setdefault(found[1], member)
            elif name not in {_LAYOUT_MEMBER, "manifest.json", "repositories"}:  # the last two: docker's
                raise ArchiveRefused(f"{name[:100]!r} is no part of an image layout")
        if index is None:
            raise ArchiveRefused("it has no index.json")
        self._models = list(self._read_index(self._read(index)))
        return {digest for _, manifest in self._models for digest in manifest.digests}

    def _read_index(self, raw: bytes) -> Iterator[tuple[ModelName, Manifest]]:
        try:
            PartBudget("index.json").take(raw)
            entries = json.loads(raw)["manifests"]
        except (ValueError, InvalidRequest, KeyError, TypeError, RecursionError) as error:
            raise ArchiveRefused("its index.json cannot be read") from error
        if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_MODELS:
            raise ArchiveRefused(f"its index.json does not list 1 to {_MOST_MODELS} models")
        total = 0
        for entry in entries:
            name, manifest = _name_of(entry), self._manifest(entry)
            total += len(manifest.raw)  # one that is listed under many names is written as often
            if total > _MOST_MANIFEST_BYTES:
                raise ArchiveRefused(f"its manifests have more than {_MOST_MANIFEST_BYTES} bytes together")
            yield name, manifest

    def _manifest(self, entry: dict[str, Any]) -> Manifest:
        digest = _parsed(Digest.parse, str(entry.get("digest")))
        member = self._members.get(digest.hex)
        if member is None:
            raise ArchiveRefused(f"it does not hold the manifest {digest}")
        manifest = _parsed(Manifest.parse, self._read(member))
        if manifest.digest_hex != digest.hex:
            raise ArchiveRefused(f"the manifest {digest} is another one")
        held = self._members.keys()
        missing = [each for each in manifest.digests if each.hex not in held and not self._store.blobs.has(each)]
        if missing:
            raise ArchiveRefused(f"it does not hold the blob {missing[0]}")
        sizes = {layer.digest: layer.size for layer in manifest.all_layers if layer.digest.hex in held}
        wrong = [digest for digest, size in sizes.items() if self._members[digest.hex].size != size]
        if wrong:
            raise ArchiveRefused(f"the blob {wrong[0]} has another size than its manifest says")
        return manifest

    def _read(self, member: tarfile.TarInfo) -> bytes:
        if member.size > MAX_MANIFEST_BYTES:
            raise ArchiveRefused(f"{member.name[:100]!r} is larger than {MAX_MANIFEST_BYTES} bytes")
        file = self._tar.extractfile(member)
        assert file is not None
        return file.read()

    def take_blobs(self) -> None:
        """Put what the store does not have into it, each blob checked by its digest."""
        wanted = {digest for _, manifest in self._models for digest in manifest.digests}
        missing = [digest for digest in wanted if not self._store.blobs.has(digest)]
        self._store.blobs.check_space(sum(self._members[digest.hex].size for digest in missing))
        for digest in sorted(missing, key=lambda digest: self._members[digest.hex].offset_data):
            member = self._members[digest.hex]
            file = self._tar.extractfile(member)
            assert file is not None
            with self._store.blobs.writer(digest, member.size) as writer:
                while data := file.read(_CHUNK_BYTES):
                    writer.write(data)
                    self._on_progress()
                writer.commit()

    def name_models(self) -> Iterator[Taken]:
        """Give the manifests their names."""
        for name, manifest in self._models:
            stored = self._store.manifests.resolve(name)
            self._store.manifests.write(stored, manifest.raw)
            yield Taken(stored, Digest(manifest.digest_hex), manifest.size_bytes)


def _name_of(entry: Any) -> ModelName:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    text = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    if not isinstance(text, str):
        raise ArchiveRefused("a manifest of its index.json has no name")
    try:
        return ModelName.parse(text)
    except InvalidModelName as error:
        raise ArchiveRefused(f"{text[:100]!r} is no model's name") from error


def _parsed(parse: Callable[[V], T], value: V) -> T:
    try:
        return parse(value)
    except InvalidRequest as error:
        raise ArchiveRefused(str(error)) from error
