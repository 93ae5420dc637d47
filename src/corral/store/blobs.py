"""`BlobStore`: bytes by digest, in `<root>/blobs/sha256-<hex>`.

A blob's name is given only to bytes whose digest has been checked and which are on disk; blobs never change.
Writers (uploads, create, pull) go through `BlobWriter` or, for resumable downloads, through `partial` and `adopt`.

| name in blobs/            | what                                            | removed by cleaning               |
|---------------------------|-------------------------------------------------|-----------------------------------|
| `sha256-<64 hex>`         | a blob                                          | unreferenced and over the grace   |
| `sha256-<64 hex>-partial` | a resumable download, locked while in use       | unlocked and over the grace       |
| `corral-tmp-<hex>`        | a file being written, locked while it is        | unlocked                          |
| `corral-reserve-<hex>`    | digests somebody is about to refer to, locked   | unlocked                          |
| anything else             | temporaries of Ollama                           | unlocked and over the grace       |
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from corral.errors import BlobNotFound, DigestMismatch, InvalidRequest, NotEnoughSpace
from corral.names import Digest
from corral.regular import open_regular
from corral.store.files import (
    FILE_MODE,
    free_bytes,
    has_name,
    is_live,
    locked_directory,
    make_directory,
    open_temp,
    sync_directory,
    try_lock,
    write_all,
    writing_to_store,
)

RESERVATION_PREFIX = "corral-reserve-"
PARTIAL_SUFFIX = "-partial"
_CHUNK_BYTES = 2**20


class BlobStore:
    """The blobs below one store's root; the directory is made on first write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "blobs"

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self.directory / digest.filename

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there; its bytes are not read."""
        return self.path(digest).is_file()

    def size(self, digest: Digest) -> int:
        """The blob's size in bytes; raises BlobNotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobNotFound(str(digest)) from None

    def read(self, digest: Digest, limit_bytes: int) -> bytes:
        """A small blob's bytes; raises BlobNotFound, InvalidRequest when it is larger than `limit_bytes`."""
        try:
            with open_regular(self.path(digest)) as file:
                data = file.read(limit_bytes + 1)
        except FileNotFoundError:
            raise BlobNotFound(str(digest)) from None
        if len(data) > limit_bytes:
            raise InvalidRequest(f"blob {digest} is larger than {limit_bytes} bytes")
        return data

    def digests(self) -> list[Digest]:
        """The digests of all blobs, sorted."""
        return sorted(digest for name in self.file_names() if (digest := blob_digest(name)))

    def file_names(self) -> list[str]:
        """The names of all files in the blobs directory, whatever they are."""
        try:
            with os.scandir(self.directory) as entries:
                return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=True))
        except FileNotFoundError:
            return []

    def writer(self, expect: Digest | None = None, size_bytes: int | None = None) -> BlobWriter:
        """A context manager that takes a blob's bytes; see BlobWriter. `size_bytes` is checked against the disk."""
        return BlobWriter(self, expect, size_bytes)

    def put(self, data: bytes) -> tuple[Digest, bool]:
        """Store bytes; the digest, and whether they are new. A blob that is already there is touched."""
        digest = Digest(hashlib.sha256(data).hexdigest())
        with contextlib.suppress(FileNotFoundError):
            if self.path(digest).stat().st_size == len(data):
                self.touch(digest)
                return digest, False
        with self.writer(digest, len(data)) as writer:
            writer.write(data)
            writer.commit()
        return digest, True

    def touch(self, digest: Digest) -> None:
        """Set the blob's time to now, which protects it from pruning for the grace period; raises BlobNotFound."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            raise BlobNotFound(str(digest)) from None
        except PermissionError:
            return  # somebody else's file in a shared store: it is his to prune, too

    def remove(self, digest: Digest) -> None:
        """Delete the blob; a missing one is fine."""
        with writing_to_store(self.root):
            self.path(digest).unlink(missing_ok=True)

    def partial_path(self, digest: Digest) -> Path:
        """Where a download of the blob grows."""
        return self.directory / f"{digest.filename}{PARTIAL_SUFFIX}"

    @contextlib.contextmanager
    def partial(self, digest: Digest) -> Iterator[IO[bytes] | None]:
        """The partial file, opened for reading and writing and locked, or None when another process has it.

        Nothing cleans it up while it is open here. It stays on disk afterwards, to be resumed or adopted.
        """
        path = self.partial_path(digest)
        while True:
            with writing_to_store(self.root):
                make_directory(self.directory)
                fd = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
            with os.fdopen(fd, "r+b", buffering=0) as file:
                if not try_lock(file):
                    yield None
                    return
                if not has_name(file, path):
                    continue  # before we had the lock it was cleaned up, or finished and became the blob
                os.fchmod(fd, FILE_MODE)
                yield file
                return

    def adopt(self, path: Path, digest: Digest) -> None:
        """Give a file in the blobs directory its digest's name. The caller has verified the bytes."""
        assert path.parent == self.directory, path
        with writing_to_store(self.root):
            with path.open("rb") as file:
                os.fchmod(file.fileno(), FILE_MODE)
                os.fsync(file.fileno())
            path.replace(self.path(digest))
        sync_directory(self.directory)
        self.touch(digest)

    def check_space(self, need_bytes: int) -> None:
        """Raise NotEnoughSpace unless the disk has `need_bytes` left."""
        free = free_bytes(self.directory)
        if need_bytes > free:
            raise NotEnoughSpace(need_bytes, free)

    def verify(self, digest: Digest) -> None:
        """Hash the blob's bytes; raises DigestMismatch, BlobNotFound. The blob stays."""
        try:
            with open_regular(self.path(digest)) as file:
                got = Digest(hashlib.file_digest(file, "sha256").hexdigest())
        except FileNotFoundError:
            raise BlobNotFound(str(digest)) from None
        if got != digest:
            raise DigestMismatch(str(digest), str(got))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process and thread from removing blobs or reserving them; for milliseconds."""
        with writing_to_store(self.root):
            make_directory(self.directory)
        with locked_directory(self.directory):
            yield

    @contextlib.contextmanager
    def reserve(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Keep blobs, present or to come, from being removed as unreferenced while their manifest is being made.

        Hold it from before the first look at the blobs until the manifest is written.
        """
        text = "".join(f"{digest.hex}\n" for digest in digests).encode()
        with writing_to_store(self.root, len(text)):
            path, file = open_temp(self.directory, RESERVATION_PREFIX)
        try:
            with self.locked(), writing_to_store(self.root, len(text)):
                write_all(file, text)
            yield
        finally:
            path.unlink(missing_ok=True)
            file.close()

    def reserved(self) -> set[Digest]:
        """The digests of all live reservations, of any process. Only complete under `locked`."""
        found: set[Digest] = set()
        for name in self.file_names():
            if name.startswith(RESERVATION_PREFIX) and is_live(self.directory / name):
                with contextlib.suppress(FileNotFoundError):
                    found |= {Digest(line) for line in (self.directory / name).read_text().split()}
        return found


class BlobWriter:
    """Takes a blob's bytes, hashing as they come; the blob has its name only after `commit`.

    Leaving the block without a commit, by an error or a cancellation, deletes what was written.
    Raises StoreNotWritable, and NotEnoughSpace up front when `size_bytes` is known, on the way when the disk fills up.
    """

    def __init__(self, store: BlobStore, expect: Digest | None, size_bytes: int | None) -> None:
        self._store = store
        self._expect = expect
        self._size_bytes = size_bytes
        self._hash = hashlib.sha256()
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self.written_bytes = 0

    def __enter__(self) -> BlobWriter:
        if self._size_bytes is not None:
            self._store.check_space(self._size_bytes)
        with writing_to_store(self._store.root, self._size_bytes or 0):
            self._path, self._file = open_temp(self._store.directory)
        return self

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        assert self._file is not None, "write outside the with block"
        self._hash.update(data)
        with writing_to_store(self._store.root, max(self._size_bytes or 0, self.written_bytes + len(data))):
            write_all(self._file, data)
        self.written_bytes += len(data)

    def commit(self) -> Digest:
        """Check the digest, make the bytes durable, give them their name. Raises DigestMismatch, NotEnoughSpace."""
        assert self._file is not None, "commit outside the with block"
        assert self._path is not None
        digest = Digest(self._hash.hexdigest())
        if self._expect is not None and digest != self._expect:
            self._discard()
            raise DigestMismatch(str(self._expect), str(digest))
        with writing_to_store(self._store.root, self.written_bytes):
            os.fsync(self._file.fileno())
            # Replacing a blob by the same bytes is harmless, and heals one that was damaged on disk.
            self._path.replace(self._store.path(digest))
        self._path = None
        sync_directory(self._store.directory)
        self._discard()
        return digest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def _discard(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
        if self._file is not None:
            self._file.close()
            self._file = None


def blob_digest(file_name: str) -> Digest | None:
    """The digest a file in the blobs directory is named after; None for anything but a finished blob."""
    if not file_name.startswith("sha256-"):
        return None
    try:
        digest = Digest.parse(file_name)
    except InvalidRequest:
        return None
    return digest if digest.filename == file_name else None
