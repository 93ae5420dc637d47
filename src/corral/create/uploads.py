"""Uploaded files become layers: GGUF as it came, safetensors converted. Nothing is shown before all files are checked.

An uploaded GGUF is stored byte for byte: its blob becomes the layer. Shards of a split GGUF become one draft, which
`finish.py` merges. Source of statuses, texts and their order: ollama server/create.go, 2026-08.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from corral.core import Notice, TransferStatus
from corral.create.background import Background
from corral.create.drafts import LayerDraft, Steps, existing, layer_status
from corral.errors import InvalidGGUF, InvalidRequest, PickleRefused
from corral.gguf import GGUFHeader
from corral.gguf.reader import is_gguf
from corral.names import Digest
from corral.store import manifests as media
from corral.store.files import open_temp, writing_to_store
from corral.store.manifests import Layer
from corral.store.models import ModelStore

if TYPE_CHECKING:  # imported by those who convert: it costs 7 MB and the gguf library
    from corral.convert import Conversion

Kind = Literal["gguf", "safetensors"]
Role = Literal["files", "adapters", "draft_files"]

_PICKLES = (".bin", ".pth", ".pt", ".ckpt")
_SHARD_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf\Z")
_HASH_PIECE_BYTES = 64 * 2**20


class Uploads:
    """Reads the files of one create call. `made`: digests of blobs it wrote; `notices`: what the caller must know."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self.made: list[Digest] = []
        self.notices: list[Notice] = []
        self._plan: Conversion | None = None  # made by the checks: what is wrong with a checkpoint is told before work

    def kind(self, files: Mapping[str, str]) -> Kind:
        """What a set of files is, by names, else by magic. Raises InvalidRequest `unknown type`."""
        if any(name.endswith(".safetensors") for name in files):
            return "safetensors"
        for name, digest in files.items():
            path = self._path(digest)
            if name.endswith(".gguf") or (path.is_file() and is_gguf(path)):
                return "gguf"
        pickle = next((name for name in sorted(files) if name.lower().endswith(_PICKLES)), None)
        if pickle is not None:
            raise PickleRefused(pickle)
        raise InvalidRequest("unknown type", field="files")

    def check(self, files: Mapping[str, str], role: Role) -> None:
        """Raise InvalidRequest or InvalidGGUF for what is unusable, as far as names and headers tell."""
        kind = self.kind(files)
        if kind == "gguf" and role == "adapters" and len(files) > 1:
            raise InvalidRequest("only one adapter is currently supported", field=role)
        for digest in files.values():
            path = self._path(digest)
            if not path.is_file():
                raise InvalidRequest(f"blob {Digest.parse(digest)} was not uploaded", field=role)
            if kind == "gguf" and is_gguf(path) and "general.architecture" not in self._store.header(path).metadata:
                raise InvalidGGUF("general.architecture is missing")
        if kind == "safetensors" and role == "files":
            self._plan = self._plan_conversion(files)

    def read(self, files: Mapping[str, str], role: Role, base: Sequence[LayerDraft] = ()) -> Steps[list[LayerDraft]]:
        """The layers that `files` are; `base`: the model's own layers, for adapters. Raises InvalidRequest."""
        if self.kind(files) == "gguf":
            return (yield from self._read_gguf(files, role))
        if role == "files":
            return (yield from self._convert_model(files))
        header = next((draft.header for draft in base if draft.header is not None), None)
        if header is None:
            raise InvalidRequest("no base model was found", field=role)
        if role == "draft_files":
            raise InvalidRequest("a draft model must be a GGUF file: make one of its safetensors first", field=role)
        return (yield from self._convert_adapter(files, header))

    def _read_gguf(self, files: Mapping[str, str], role: Role) -> Steps[list[LayerDraft]]:
        drafts: list[LayerDraft] = []
        shards: dict[tuple[str, str, int], list[LayerDraft]] = {}
        for name in sorted(files):
            yield TransferStatus("parsing GGUF")
            draft = self._uploaded(name, Digest.parse(files[name]), role)
            group = _shard_group(draft)
            if group is None:
                drafts.append(draft)
            else:
                shards.setdefault(group, []).append(draft)
        return drafts + [_join(members, group[2]) for group, members in shards.items()]

    def _uploaded(self, name: str, digest: Digest, role: Role) -> LayerDraft:
        path = self._store.blobs.path(digest)
        if not is_gguf(path):
            raise InvalidRequest("supplied file was not in GGUF format", field=role)
        header = self._store.header(path)
        if role == "adapters" and not header.is_adapter:
            raise InvalidRequest(f'adapter "{name}" is no LoRA adapter: general.type is "{header.kind}"', field=role)
        self._store.blobs.touch(digest)
        layer = Layer(_media_type(header, role), digest, header.file_size, name)
        return existing(layer, parts=(header,), uploaded=True)

    def _convert_model(self, files: Mapping[str, str]) -> Steps[list[LayerDraft]]:
        yield TransferStatus("converting model")
        plan = self._plan or self._plan_conversion(files)
        self.notices += plan.notices
        self._store.blobs.check_space(plan.size_bytes)
        with self._temporary(plan.size_bytes) as out, self._temporary(0) as eyes:
            work = Background(lambda progress: plan.write(out, eyes, progress))
            converted = yield from work.steps("converting model")
            drafts = [(yield from self._keep(out, media.MODEL, "converting model"))]
            if converted.projector is not None:
                drafts.append((yield from self._keep(eyes, media.PROJECTOR, "converting model")))
            return drafts

    def _plan_conversion(self, files: Mapping[str, str]) -> Conversion:
        from corral.convert import plan_conversion

        return plan_conversion({name: self._path(digest) for name, digest in files.items()})

    def _convert_adapter(self, files: Mapping[str, str], base: GGUFHeader) -> Steps[list[LayerDraft]]:
        yield TransferStatus("converting adapter")
        paths = {name: self._path(digest) for name, digest in files.items()}
        with self._temporary(0) as out:
            from corral.convert import convert_adapter

            convert_adapter(paths, base, out)
            return [(yield from self._keep(out, media.ADAPTER, "converting adapter"))]

    @contextmanager
    def _temporary(self, need_bytes: int) -> Iterator[Path]:
        """A file in the store's blobs directory that is gone afterwards, unless it was given a blob's name."""
        with writing_to_store(self._store.root, need_bytes):
            path, file = open_temp(self._store.blobs.directory)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)
                file.close()

    def _keep(self, path: Path, media_type: str, status: str) -> Steps[LayerDraft]:
        """Make a finished file a blob and a layer; repeats the status so that a long hash can be interrupted."""
        sha256 = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_HASH_PIECE_BYTES):
                sha256.update(piece)
                yield TransferStatus(status)
        digest = Digest(sha256.hexdigest())
        is_new = not self._store.blobs.has(digest)
        self._store.blobs.adopt(path, digest)
        if is_new:
            self.made.append(digest)
        header = self._store.header(self._store.blobs.path(digest))
        layer = Layer(media_type, digest, header.file_size)
        return LayerDraft(layer, layer_status(digest, is_new=is_new), (header,), uploaded=True)

    def _path(self, digest: str) -> Path:
        return self._store.blobs.path(Digest.parse(digest))


def _media_type(header: GGUFHeader, role: Role) -> str:
    if role == "draft_files":
        return media.DRAFT
    if header.is_adapter:
        return media.ADAPTER
    return media.PROJECTOR if header.is_projector else media.MODEL


def _shard_group(draft: LayerDraft) -> tuple[str, str, int] | None:
    """What the shards of one model have in common: media type, name, number of shards; None for a whole file."""
    header = draft.parts[0]
    count = header.integer("split.count")
    if count <= 1:
        return None
    name = draft.layer.source
    match = _SHARD_NAME.match(name.rpartition("/")[2])
    if not match or int(match[2]) == 0 or int(match[3]) == 0:
        raise _split_error(name, "must use llama.cpp split filename pattern")
    if int(match[3]) != count:
        raise _split_error(name, f"filename count {int(match[3])} does not match metadata count {count}")
    if header.get("split.no") is None:
        raise _split_error(name, "is missing split.no metadata")
    index, number = int(match[2]) - 1, header.integer("split.no")
    if index != number:
        raise _split_error(name, f"filename index {index} does not match metadata index {number}")
    return draft.layer.media_type, match[1], count


def _join(shards: Sequence[LayerDraft], count: int) -> LayerDraft:
    """The draft of a whole model from all its shards, which still lie apart."""
    if len(shards) != count:
        raise _split_error(shards[0].layer.source, f"has {len(shards)} shards, expected {count}")
    ordered = sorted(shards, key=lambda draft: draft.parts[0].integer("split.no"))
    return replace(ordered[0], parts=tuple(draft.parts[0] for draft in ordered))


def _split_error(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f'split GGUF "{name}" {why}', field="files")
