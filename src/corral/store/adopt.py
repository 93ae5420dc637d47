"""Taking over models that other programs keep on this machine: Ollama, LM Studio, Hugging Face's hub cache.

Files are shared, not copied: as a reflink where the file system can (own inode, no extra space), else as a hard link.
Where neither works (another file system) the model is left out and the report says so; `copy=True` copies instead.
Nothing is trusted for its name: every byte is hashed before it becomes a blob. Called by `corral import`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.errors import CorralError, DigestMismatch, InvalidGGUF, InvalidModelName
from corral.gguf import GGUFHeader, format_parameter_size, is_gguf, read_header
from corral.names import Digest, ModelName
from corral.store import manifests as media
from corral.store.files import FILE_MODE, open_temp
from corral.store.manifests import Layer, Manifest, ManifestStore
from corral.store.modelconfig import GGUF_FORMAT, ModelConfig
from corral.store.models import ModelStore

_FICLONE = 0x40049409  # linux/fs.h
_CANNOT_SHARE = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_CHUNK_BYTES = 2**20
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_QUANTIZATION = re.compile(r"(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|F16|F32|BF16|MXFP4\w*|TQ\d_0))$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of one model found elsewhere: `skipped` says why it was left out, empty when it was taken."""

    name: str
    source: Path
    size_bytes: int = 0
    skipped: str = ""


class CannotShare(CorralError):
    """A file that can be neither reflinked nor hard-linked into the store."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name = name


def import_ollama(store: ModelStore, source: Path, *, copy: bool = False) -> Iterator[Adopted]:
    """Take over every model of an Ollama store (the directory that holds `blobs` and `manifests`)."""
    theirs = ManifestStore(source)
    for name in theirs.names():
        path = theirs.path(name)
        with _reporting(name.short, path) as outcome:
            manifest = theirs.read(name)
            with store.blobs.reserve(manifest.digests):
                for layer in manifest.all_layers:
                    original = _Original(source / "blobs" / layer.digest.filename)
                    if original.digest != layer.digest:
                        raise DigestMismatch(str(layer.digest), str(original.digest))
                    _share(store, original, copy=copy)
                store.write(_free_name(store, name, manifest), manifest)
            outcome.size_bytes = manifest.size_bytes
        yield outcome.done()


def import_lmstudio(store: ModelStore, source: Path, *, copy: bool = False) -> Iterator[Adopted]:
    """Take over LM Studio's models folder: `<publisher>/<repository>/*.gguf`, named `publisher/repository:quant`."""
    for folder in sorted(source.glob("*/*")):
        if folder.is_dir():
            yield from _import_folder(store, folder, folder.parent.name, folder.name, "", copy=copy)


def import_hf_cache(store: ModelStore, source: Path, *, copy: bool = False) -> Iterator[Adopted]:
    """Take over the GGUFs of a Hugging Face hub cache, named as `corral pull hf.co/...` would name them."""
    for repository in sorted(source.glob("models--*--*")):
        _, owner, name = repository.name.split("--", 2)
        for snapshot in _newest(repository / "snapshots"):
            yield from _import_folder(store, snapshot, owner, name, "hf.co", copy=copy)


class _Outcome:
    def __init__(self, name: str, source: Path) -> None:
        self.name, self.source = name, source
        self.size_bytes = 0
        self.skipped = ""

    def done(self) -> Adopted:
        return Adopted(self.name, self.source, self.size_bytes, self.skipped)


class _reporting:  # noqa: N801  a context manager, used like a function
    """Turns what is wrong with one model into its report, so that the others are still taken."""

    def __init__(self, name: str, source: Path) -> None:
        self._outcome = _Outcome(name, source)

    def __enter__(self) -> _Outcome:
        return self._outcome

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, CorralError | OSError):
            self._outcome.skipped = str(error)
            return True
        return False


def _import_folder(
    store: ModelStore, folder: Path, owner: str, repository: str, host: str, *, copy: bool
) -> Iterator[Adopted]:
    """Each GGUF of a folder is a model; its projectors (mmproj) go to every one of them."""
    files = sorted(path for path in folder.rglob("*.gguf") if path.is_file())
    headers: dict[Path, GGUFHeader] = {}
    for path in files:
        with _reporting(path.name, path) as outcome:
            headers[path] = _whole_header(path)
        if outcome.skipped:
            yield outcome.done()
    projectors = [path for path, header in headers.items() if header.is_projector]
    for path, header in headers.items():
        if path in projectors or header.is_adapter:
            continue
        with _reporting(path.name, path) as outcome:
            name = _name_of(path, header, owner, repository, host)
            outcome.name = name.short
            outcome.size_bytes = _import_gguf(store, name, path, projectors, copy=copy)
        yield outcome.done()


def _import_gguf(store: ModelStore, name: ModelName, path: Path, projectors: list[Path], *, copy: bool) -> int:
    """Share the files, write config and manifest; returns the model's size."""
    files = [(media.MODEL, _Original(path)), *((media.PROJECTOR, _Original(projector)) for projector in projectors)]
    header = read_header(path)
    config = ModelConfig(
        model_format=GGUF_FORMAT,
        model_family=header.architecture,
        model_families=(header.architecture, *(read_header(projector).architecture for projector in projectors)),
        model_type=format_parameter_size(header.parameter_count),
        file_type=header.file_type,
    ).encode()
    with store.blobs.reserve([*(file.digest for _, file in files), Digest(hashlib.sha256(config).hexdigest())]):
        for _, file in files:
            _share(store, file, copy=copy)
        layers = tuple(Layer(kind, file.digest, file.size_bytes, file.name) for kind, file in files)
        manifest = Manifest(Layer(media.CONFIG, store.blobs.put(config)[0], len(config)), layers)
        store.write(_free_name(store, name, manifest), manifest)
    return manifest.size_bytes


class _Original:
    """A file elsewhere, hashed; `check_unchanged` tells whether it is still the file that was hashed."""

    def __init__(self, path: Path) -> None:
        self.name = path.name  # the hub cache's names are links to blobs
        self.path = path.resolve(strict=True)
        self._identity = self._look()
        self.size_bytes = self._identity[1]
        with self.path.open("rb") as file:
            self.digest = Digest(hashlib.file_digest(file, "sha256").hexdigest())

    def check_unchanged(self) -> None:
        if self._look() != self._identity:
            raise CannotShare(self.name, "changed while it was read")

    def _look(self) -> tuple[int, int, int]:
        stat = self.path.stat()
        return (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _share(store: ModelStore, original: _Original, *, copy: bool) -> None:
    """Make a file a blob: reflink, hard link, or (if allowed) copy."""
    blobs, digest = store.blobs, original.digest
    if blobs.has(digest) and blobs.size(digest) == original.size_bytes:
        blobs.touch(digest)
    elif not (_reflink(store, original) or _hard_link(store, original)):
        if not copy:
            raise CannotShare(original.name, "is on another file system; it could only be copied")
        with blobs.writer(digest, original.size_bytes) as writer, original.path.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                writer.write(chunk)
            writer.commit()


def _reflink(store: ModelStore, original: _Original) -> bool:
    temp, file = open_temp(store.blobs.directory)
    try:
        with file, original.path.open("rb") as source:
            fcntl.ioctl(file.fileno(), _FICLONE, source.fileno())
            original.check_unchanged()
            os.fsync(file.fileno())
            temp.replace(store.blobs.path(original.digest))
    except OSError:
        return False
    finally:
        temp.unlink(missing_ok=True)
    return True


def _hard_link(store: ModelStore, original: _Original) -> bool:
    target = store.blobs.path(original.digest)
    target.unlink(missing_ok=True)  # of another size, so it is damaged
    try:
        target.hardlink_to(original.path)
    except OSError as error:
        if error.errno in _CANNOT_SHARE:
            return False
        raise
    try:
        original.check_unchanged()
    except CannotShare:
        target.unlink()
        raise
    if target.stat().st_mode & 0o444 != 0o444:
        target.chmod(FILE_MODE)  # a blob must be readable by whoever shares the store
    return True


def _free_name(store: ModelStore, name: ModelName, manifest: Manifest) -> ModelName:
    """The stored spelling of the name; raises InvalidModelName when another model has it already."""
    resolved = store.manifests.resolve(name)
    if store.manifests.path(resolved).exists() and store.manifests.read(resolved).digests != manifest.digests:
        raise InvalidModelName(name.short, f"another model is already called {name.short}")
    return resolved


def _whole_header(path: Path) -> GGUFHeader:
    if not is_gguf(path):
        raise InvalidGGUF("invalid file magic")
    if _SHARD.search(path.stem):
        raise InvalidGGUF("one file of a split model; merge it with llama-gguf-split first")
    return read_header(path)


def _name_of(path: Path, header: GGUFHeader, owner: str, repository: str, host: str) -> ModelName:
    """`[host/]owner/repository:quant` in characters that names allow; the quant from the file name, else the header."""
    match = _QUANTIZATION.search(path.stem)
    tag = match.group(1) if match else header.file_type_for_tags
    model = _allowed(repository.removesuffix("-GGUF").removesuffix("-gguf"), "_.-") if not host else repository
    prefix = f"{host}/" if host else ""
    return ModelName.parse(f"{prefix}{_allowed(owner, '_-')}/{_allowed(model, '_.-')}:{_allowed(tag, '_.-')}")


def _allowed(text: str, marks: str) -> str:
    return re.sub(rf"[^A-Za-z0-9{re.escape(marks)}]", "-", text).lstrip("-.")[:80]


def _newest(snapshots: Path) -> list[Path]:
    found = [path for path in snapshots.glob("*") if path.is_dir()]
    return [max(found, key=lambda path: path.stat().st_mtime)] if found else []
