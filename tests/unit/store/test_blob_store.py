"""Blobs: only checked bytes get a digest's name, whole or not at all, on full disks and with two processes at once."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from corral.errors import BlobNotFound, DigestMismatch, InvalidRequest, NotEnoughSpace
from corral.names import Digest
from corral.store import BlobStore, files
from corral.store.files import is_live, open_temp, remove_if_dead


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "models")


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_blob_lies_under_its_digest(blobs: BlobStore) -> None:
    digest, new = blobs.put(b"hello")
    assert new
    assert str(digest) == "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert blobs.path(digest) == blobs.root / "blobs" / f"sha256-{digest.hex}"
    assert blobs.path(digest).read_bytes() == b"hello"
    assert blobs.has(digest)
    assert blobs.size(digest) == 5
    assert blobs.digests() == [digest]


def test_the_same_bytes_twice_are_one_blob_and_touched(blobs: BlobStore) -> None:
    digest, _ = blobs.put(b"hello")
    os.utime(blobs.path(digest), (1, 1))
    assert blobs.put(b"hello") == (digest, False)
    assert blobs.path(digest).stat().st_mtime > 1


def test_a_blob_cut_short_on_disk_is_replaced_not_trusted(blobs: BlobStore) -> None:
    digest, _ = blobs.put(b"hello")
    os.truncate(blobs.path(digest), 2)
    assert blobs.put(b"hello") == (digest, True)
    assert blobs.path(digest).read_bytes() == b"hello"


def test_wrong_bytes_never_get_the_name_and_leave_nothing(blobs: BlobStore) -> None:
    want = digest_of(b"right")
    with blobs.writer(want) as writer:
        writer.write(b"wrong")
        with pytest.raises(DigestMismatch) as caught:
            writer.commit()
    assert (caught.value.want, caught.value.got) == (str(want), str(digest_of(b"wrong")))
    assert blobs.file_names() == []


def test_leaving_without_a_commit_leaves_nothing(blobs: BlobStore) -> None:
    def upload() -> None:
        with blobs.writer() as writer:
            writer.write(b"half")
            raise RuntimeError("client left")

    with pytest.raises(RuntimeError):
        upload()
    assert blobs.file_names() == []


def test_modes_are_fixed_whatever_the_umask(blobs: BlobStore, strict_umask: None) -> None:
    digest, _ = blobs.put(b"x")
    assert blobs.path(digest).stat().st_mode & 0o777 == 0o644
    assert blobs.directory.stat().st_mode & 0o777 == 0o755
    assert blobs.root.stat().st_mode & 0o777 == 0o755
    with blobs.partial(digest):
        assert blobs.partial_path(digest).stat().st_mode & 0o777 == 0o644


def test_bytes_are_on_disk_before_the_blob_has_its_name(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, steps, fsync, replace = digest_of(b"x"), [], os.fsync, Path.replace

    def record_fsync(fd: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def record_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    with blobs.writer(digest) as writer:
        writer.write(b"x")
        writer.commit()
    assert steps == ["file", "rename", "directory"]


def test_a_blob_larger_than_the_disk_is_refused_before_a_byte_is_written(blobs: BlobStore) -> None:
    with pytest.raises(NotEnoughSpace) as caught, blobs.writer(size_bytes=2**60):
        pass
    assert caught.value.need_bytes == 2**60
    assert 0 < caught.value.free_bytes < 2**60
    assert blobs.file_names() == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_on_the_way_says_so_and_leaves_nothing(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    kept, _ = blobs.put(b"earlier")

    def full(*_: object) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr("corral.store.blobs.write_all", full)
    with pytest.raises(NotEnoughSpace) as caught:
        blobs.put(b"later")
    assert caught.value.need_bytes == 5
    assert blobs.file_names() == [blobs.path(kept).name]


def test_a_disk_that_fills_up_at_fsync_says_so(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotEnoughSpace):
        blobs.put(b"later")
    assert blobs.file_names() == []


def test_a_reservation_on_a_full_disk_says_so_and_leaves_nothing(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("corral.store.blobs.write_all", full)
    with pytest.raises(NotEnoughSpace), blobs.reserve([digest_of(b"x")]):
        pass
    assert blobs.file_names() == []


def test_other_disk_errors_stay_what_they_are(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        blobs.put(b"later")


def test_short_writes_are_continued(tmp_path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.got = b""

        def write(self, data: memoryview) -> int:
            self.got += bytes(data[:3])
            return len(data[:3])

    slow = Slow()
    files.write_all(slow, b"0123456789")  # type: ignore[arg-type]
    assert slow.got == b"0123456789"


def test_a_missing_blob_is_named(blobs: BlobStore) -> None:
    digest = digest_of(b"nope")
    for look in (blobs.size, blobs.touch, blobs.verify):
        with pytest.raises(BlobNotFound, match=digest.hex):
            look(digest)
    with pytest.raises(BlobNotFound):
        blobs.read(digest, 10)
    blobs.remove(digest)
    assert not blobs.has(digest)
    assert blobs.file_names() == []


def test_reading_a_small_blob_is_bounded(blobs: BlobStore) -> None:
    digest, _ = blobs.put(b"12345")
    assert blobs.read(digest, 5) == b"12345"
    with pytest.raises(InvalidRequest):
        blobs.read(digest, 4)


def test_verify_reads_the_bytes(blobs: BlobStore) -> None:
    digest, _ = blobs.put(b"12345")
    blobs.verify(digest)
    blobs.path(digest).write_bytes(b"54321")
    with pytest.raises(DigestMismatch):
        blobs.verify(digest)


def test_a_verified_download_is_adopted(blobs: BlobStore) -> None:
    digest = digest_of(b"data")
    with blobs.partial(digest) as file:
        assert file is not None
        file.write(b"data")
    os.utime(blobs.partial_path(digest), (1, 1))
    blobs.adopt(blobs.partial_path(digest), digest)
    assert blobs.path(digest).read_bytes() == b"data"
    assert blobs.path(digest).stat().st_mtime > 1
    assert not blobs.partial_path(digest).exists()


def test_a_partial_belongs_to_one_writer_at_a_time_and_survives_him(blobs: BlobStore) -> None:
    digest = digest_of(b"data")
    with blobs.partial(digest) as first:
        assert first is not None
        first.write(b"da")
        with blobs.partial(digest) as second:
            assert second is None
        assert is_live(blobs.partial_path(digest))
    assert not is_live(blobs.partial_path(digest))
    with blobs.partial(digest) as third:
        assert third is not None
        assert third.read() == b"da"


def test_a_partial_removed_before_it_was_locked_is_made_again(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, lock = digest_of(b"data"), files.try_lock
    removed: list[int | None] = []

    def clean_up_first(file: IO[bytes]) -> bool:
        if not removed:
            removed.append(5)
            removed[0] = remove_if_dead(blobs.partial_path(digest))
        return lock(file)

    monkeypatch.setattr("corral.store.blobs.try_lock", clean_up_first)
    with blobs.partial(digest) as file:
        assert file is not None
        file.write(b"data")
        assert removed == [0]
        assert blobs.partial_path(digest).read_bytes() == b"data"


def test_a_partial_that_became_the_blob_before_it_was_locked_is_not_written_to(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, lock = digest_of(b"data"), files.try_lock
    blobs.put(b"other")
    blobs.partial_path(digest).write_bytes(b"data")

    def finish_first(file: IO[bytes]) -> bool:
        if not blobs.has(digest):
            blobs.adopt(blobs.partial_path(digest), digest)
        return lock(file)

    monkeypatch.setattr("corral.store.blobs.try_lock", finish_first)
    with blobs.partial(digest) as file:
        assert file is not None
        file.write(b"junk")
    blobs.verify(digest)


def test_what_somebody_holds_is_not_removed(blobs: BlobStore) -> None:
    digest = digest_of(b"data")
    with blobs.partial(digest):
        assert remove_if_dead(blobs.partial_path(digest)) is None
    assert remove_if_dead(blobs.partial_path(digest)) == 0
    assert remove_if_dead(blobs.partial_path(digest)) is None


def test_reservations_hold_while_they_are_open(blobs: BlobStore) -> None:
    one, two = digest_of(b"1"), digest_of(b"2")
    with blobs.reserve([one, two]):
        assert blobs.reserved() == {one, two}
    assert blobs.reserved() == set()
    assert blobs.file_names() == []


_RACER = """
import sys
from pathlib import Path
from corral.store import BlobStore
blobs = BlobStore(Path(sys.argv[1]))
sys.stdin.read(1)
for number in range(60):
    digest, _ = blobs.put(b"%d" % number * 1000)
    blobs.verify(digest)
"""

_HOLDER = """
import sys
from pathlib import Path
from corral.names import Digest
from corral.store import BlobStore
blobs = BlobStore(Path(sys.argv[1]))
with blobs.writer() as writer, blobs.partial(Digest(sys.argv[2])), blobs.reserve([Digest(sys.argv[2])]):
    writer.write(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_two_processes_write_the_same_blobs_at_once(blobs: BlobStore) -> None:
    command = [sys.executable, "-c", _RACER, str(blobs.root)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(b"x")
        racer.stdin.flush()
    assert [(racer.communicate()[1], racer.returncode) for racer in racers] == [(b"", 0)] * 2
    assert len(blobs.digests()) == 60
    assert len(blobs.file_names()) == 60


def test_locks_die_with_their_process(blobs: BlobStore) -> None:
    digest = digest_of(b"data")
    command = [sys.executable, "-c", _HOLDER, str(blobs.root), digest.hex]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        live = [name for name in blobs.file_names() if is_live(blobs.directory / name)]
        assert len(live) == 3
        assert blobs.reserved() == {digest}
        holder.kill()
    assert [name for name in blobs.file_names() if is_live(blobs.directory / name)] == []
    assert blobs.reserved() == set()
    assert len(blobs.file_names()) == 3


def test_a_temp_file_taken_for_dead_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = files.try_lock
    stolen: list[Path] = []

    def steal_first(file: object) -> bool:
        if not stolen:
            stolen.extend(tmp_path.iterdir())
            stolen[0].unlink()
        return lock(file)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "try_lock", steal_first)
    path, file = open_temp(tmp_path)
    file.close()
    assert path.exists()
    assert path != stolen[0]
