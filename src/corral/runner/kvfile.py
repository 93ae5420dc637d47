"""One folder of saved conversations: its files read, checked, kept and swept. Plain blocking code; used by kvcache.py.

A runner writes a slot's state to `slot.part`, which the server made and which is the only file that it can write
(sandbox.py). `keep` copies it from there to a file of its own name, which no runner can change:

    slot.part                                          being written; empty at other times
    slot-<number>.copy                                 of one runner, by which it copies slots; gone with it
    <digest of the tokens>-<size>-<tag>[-<owner>].kv   mode 0600; owner: whose it is, where keys are separated

The tag is a keyed digest of all bytes, of the way of loading, of the engine and of the owner. It is checked before an
engine gets the file: llama.cpp itself checks next to nothing, aborts on a file that is too short, and answers from
flipped bits as if nothing were wrong. The key is the server's, so that no runner can make a file that passes.

A state starts with llama.cpp's header: magic, version, number of words (u32), then the words of the tokens.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import stat
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

from corral.runner.spec import SLOT_PART

_MAGIC = 0x67677371  # "ggsq": LLAMA_STATE_SEQ_MAGIC
_HEADER = struct.Struct("<III")
_MOST_TOKENS = 4 * 2**20
_SEAM_TOKENS = 8  # the end of an answer may be cut into other tokens once more text follows it
_PACKED = b"\xff\xff\xff\xff"  # marker word, version word, count, tokens, media; older engines wrote bare tokens
_COPY_SUFFIX = ".copy"
_NAME = re.compile(r"[0-9a-f]{32}-(?P<size>\d{1,15})-(?P<tag>[0-9a-f]{32})(-(?P<owner>[0-9a-f]{32}))?\.kv")
_KEY_BYTES = 32
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """One file; `tokens` are 32-bit words, images left out. owner: "" = nobody's in particular."""

    path: Path
    size_bytes: int
    saved_at: float
    tokens: bytes
    owner: str = ""

    def continues(self, older: SavedConversation) -> bool:
        """Whether the older one is a beginning of this one, but for a few tokens at the seam."""
        if self.owner != older.owner:
            return False
        beginning = older.tokens[: max(0, len(older.tokens) - 4 * _SEAM_TOKENS)]
        return len(self.tokens) >= len(older.tokens) and self.tokens.startswith(beginning)


@dataclass(frozen=True, slots=True)
class Seal:
    """What makes the tags of one way of loading: the server's key, and what a state is bound to."""

    key: bytes
    bound_to: str
    owner: str = ""

    def of(self, owner: str) -> Seal:
        """The seal of one owner's files."""
        return replace(self, owner=owner)

    def tag(self, source: BinaryIO, copy: IO[bytes] | None = None) -> str:
        """The tag of a file from here to its end, which is copied on the way."""
        bound_to = "\0".join(filter(None, (self.bound_to, self.owner))) + "\0"
        digest = hashlib.blake2b(bound_to.encode(), digest_size=16, key=self.key)
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            if copy is not None:
                copy.write(chunk)
        return digest.hexdigest()


def server_key(path: Path) -> bytes:
    """The key that tags are made with; made where there is none, 0600."""
    with contextlib.suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == _KEY_BYTES:
            return key
        path.unlink(missing_ok=True)  # cut short by a crash: what it tagged is useless
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".key-") as fresh:
        fresh.write(secrets.token_bytes(_KEY_BYTES))
        fresh.flush()
        os.fsync(fresh.fileno())
        with contextlib.suppress(FileExistsError):  # another server was quicker
            os.link(fresh.name, path)
    return path.read_bytes()


def make_part(part: Path) -> None:
    """The file that a runner may write to, with its folders; empty, unless another server is at it. Raises OSError."""
    part.parent.parent.mkdir(0o700, parents=True, exist_ok=True)
    part.parent.mkdir(0o700, exist_ok=True)
    with open(_open(part, os.O_RDWR | os.O_CREAT), "r+b") as file, _whole(file):
        pass


def make_copy_file(folder: Path) -> tuple[str, BinaryIO]:
    """The file by which a runner copies slots: its name, and what keeps `sweep` off it until closed. Raises OSError."""
    path = folder / f"slot-{secrets.token_hex(8)}{_COPY_SUFFIX}"
    file = open(_open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), "r+b")  # noqa: SIM115  the caller closes it
    fcntl.flock(file, fcntl.LOCK_SH)
    return path.name, file


def keep(part: Path, seal: Seal) -> bool:
    """Take over what a runner wrote, if it is a conversation; those that it continues are superseded."""
    with open(_open(part, os.O_RDWR), "r+b") as written, _whole(written) as is_whole:
        saved = _read_head(part, written, seal.owner) if is_whole else None
        if saved is None:
            return False
        older = [other for other in saved_in(part.parent) if saved.continues(other)]
        with tempfile.NamedTemporaryFile(dir=part.parent, suffix=".tmp", delete=False) as copy:
            written.seek(0)
            tag = seal.tag(written, copy)
            size = copy.tell()
            copy.flush()
            os.fsync(copy.fileno())
        parts = [hashlib.sha256(saved.tokens).hexdigest()[:32], str(size), tag, seal.owner]
        name = "-".join(filter(None, parts)) + ".kv"
        Path(copy.name).replace(part.with_name(name))
        for other in older:
            if other.path.name != name:
                other.path.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _whole(written: BinaryIO) -> Iterator[bool]:
    """Alone with the part, of which nothing is left afterwards; False while another server is at it."""
    try:
        fcntl.flock(written, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        written.truncate(0)


def is_sound(path: Path, seal: Seal) -> bool:
    """Whether a kept file is what was written; reads all of it."""
    name = _NAME.fullmatch(path.name)
    try:
        with open(_open(path, os.O_RDONLY), "rb") as file:
            return name is not None and secrets.compare_digest(seal.of(name["owner"] or "").tag(file), name["tag"])
    except OSError:
        return False


def saved_in(folder: Path) -> list[SavedConversation]:
    """The conversations of a folder, newest first."""
    found = [saved for path in folder.glob("*.kv") if (saved := read_saved(path)) is not None]
    return sorted(found, key=lambda saved: saved.saved_at, reverse=True)


def read_saved(path: Path) -> SavedConversation | None:
    """The head of a kept file; None when its name, its size or its head is not what it should be."""
    name = _NAME.fullmatch(path.name)
    if name is None:
        return None
    try:
        with open(_open(path, os.O_RDONLY), "rb") as file:
            saved = _read_head(path, file, name["owner"] or "")
    except OSError:
        return None
    return saved if saved is not None and saved.size_bytes == int(name["size"]) else None


def _read_head(path: Path, file: BinaryIO, owner: str) -> SavedConversation | None:
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return None
    magic, _, count = _HEADER.unpack(head)
    if magic != _MAGIC or not 0 < count <= _MOST_TOKENS:
        return None
    words = file.read(4 * count)
    if len(words) != 4 * count:
        return None
    if words.startswith(_PACKED) and len(words) > 12:
        words = words[12 : 12 + 4 * int.from_bytes(words[8:12], "little")]
    status = os.fstat(file.fileno())
    return SavedConversation(path, status.st_size, status.st_mtime, words, owner)


def sweep(root: Path, max_bytes: int) -> None:
    """Delete whatever is no conversation in the folders below `root`, then the oldest ones until the bound is met."""
    files = []
    for path in root.glob("*/*"):
        if path.name == SLOT_PART or _is_in_use(path):
            continue
        if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
        elif not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= max_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size


def _is_in_use(path: Path) -> bool:
    """Whether a runner that lives copies slots by this file."""
    if path.suffix != _COPY_SUFFIX:
        return False
    try:
        with open(_open(path, os.O_RDWR), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _open(path: Path, flags: int) -> int:
    """A descriptor of a regular file of this folder: no link is followed, nothing is waited for. Raises OSError."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "not a regular file")
    return fd
