"""`ManifestStore`: model names to manifests, in `<root>/manifests/<host>/<namespace>/<model>/<tag>`.

Manifests are kept byte for byte as written or pulled, so that their sha256 is the registry's digest.
Source of layout and JSON: ollama manifest/manifest.go and layer.go, 2026-08.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from corral.errors import InvalidRequest, ModelDamaged, ModelNotFound, StoreNotWritable
from corral.gojson import encode_blob
from corral.names import Digest, ModelName
from corral.regular import NotRegularFile, open_regular
from corral.store.files import write_atomically, writing_to_store

MANIFEST_MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
_IMAGE = "application/vnd.ollama.image."
MODEL = f"{_IMAGE}model"
PROJECTOR = f"{_IMAGE}projector"
ADAPTER = f"{_IMAGE}adapter"
DRAFT = f"{_IMAGE}draft"
TEMPLATE = f"{_IMAGE}template"
PROMPT = f"{_IMAGE}prompt"  # an old name of template
SYSTEM = f"{_IMAGE}system"
PARAMS = f"{_IMAGE}params"
MESSAGES = f"{_IMAGE}messages"
LICENSE = f"{_IMAGE}license"
TENSOR = f"{_IMAGE}tensor"
JSON = f"{_IMAGE}json"

MAX_MANIFEST_BYTES = 8 * 2**20  # as many layers as there may be, with long names
MAX_LAYERS = 16_384  # models stored a tensor a layer have a few thousand
_MOST_COMMAS, _MOST_BRACKETS = 8 * MAX_LAYERS, 2 * MAX_LAYERS  # what so many layers are written with, and room


@dataclass(frozen=True, slots=True)
class Layer:
    """A manifest's entry. `source` ("from" on disk) is the model or file it came from, `name` a tensor's or file's."""

    media_type: str
    digest: Digest
    size: int  # bytes
    source: str = ""
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """The layer in the manifest's spelling and key order; empty `from` and `name` are left out."""
        entry: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.source:
            entry["from"] = self.source
        if self.name:
            entry["name"] = self.name
        return entry


@dataclass(frozen=True)
class Manifest:
    """A model's config and layers, with the bytes they were read from or will be written as."""

    config: Layer | None
    layers: tuple[Layer, ...]
    raw: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not self.raw:
            object.__setattr__(self, "raw", self._encode())

    @classmethod
    def parse(cls, raw: bytes) -> Manifest:
        """Read a manifest's JSON, any key order, extra keys ignored; raises InvalidRequest saying what is wrong."""
        if len(raw) > MAX_MANIFEST_BYTES:
            raise InvalidRequest(f"manifest is {len(raw)} bytes long, the limit is {MAX_MANIFEST_BYTES}")
        # Counted before it is decoded: 8 MiB of `{},` would be over two million objects.
        if raw.count(b",") > _MOST_COMMAS or raw.count(b"{") + raw.count(b"[") > _MOST_BRACKETS:
            raise InvalidRequest(f"manifest has too many entries, the limit is {MAX_LAYERS} layers")
        try:
            # Go's decoder stops after the first value; whatever follows it is tolerated there and here.
            document, _ = json.JSONDecoder().raw_decode(raw.decode("utf-8", "replace").lstrip(" \t\r\n"))
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("manifest is no JSON") from error
        if not isinstance(document, dict):
            raise InvalidRequest("manifest is no JSON object")
        layers = document.get("layers") or []
        if not isinstance(layers, list):
            raise InvalidRequest("manifest's layers are no list")
        if len(layers) > MAX_LAYERS:
            raise InvalidRequest(f"manifest has {len(layers)} layers, the limit is {MAX_LAYERS}")
        return cls(_parse_config(document.get("config")), tuple(_parse_layer(entry) for entry in layers), raw)

    def encode(self) -> bytes:
        """The bytes to store: as received for a manifest that was parsed, as Ollama writes them for a new one."""
        return self.raw

    @cached_property
    def digest_hex(self) -> str:
        """The sha256 of the bytes, bare hex."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """The layers and the config, last."""
        return self.layers if self.config is None else (*self.layers, self.config)

    @property
    def digests(self) -> set[Digest]:
        """Every blob the manifest needs."""
        return {layer.digest for layer in self.all_layers}

    @property
    def size_bytes(self) -> int:
        """The sum of all sizes in the manifest, a digest listed twice counted twice, as Ollama does."""
        return sum(layer.size for layer in self.all_layers)

    def of_type(self, *media_types: str) -> tuple[Layer, ...]:
        """The layers of these media types, in manifest order."""
        return tuple(layer for layer in self.layers if layer.media_type in media_types)

    def _encode(self) -> bytes:
        # A Go struct: an absent config is its zero value, a nil slice of layers is null.
        config = self.config.to_json() if self.config else {"mediaType": "", "digest": "", "size": 0}
        layers = [layer.to_json() for layer in self.layers] or None
        document = {"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE, "config": config, "layers": layers}
        return encode_blob(document)


def _parse_config(entry: Any) -> Layer | None:
    if entry is None or (isinstance(entry, dict) and not entry.get("digest")):
        return None
    return _parse_layer(entry)


def _parse_layer(entry: Any) -> Layer:
    if not isinstance(entry, dict):
        raise InvalidRequest("manifest's layer is no JSON object")
    digest, size = entry.get("digest"), entry.get("size", 0)
    if not isinstance(digest, str):
        raise InvalidRequest("manifest's layer has no digest")
    blob = Digest.parse(digest)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise InvalidRequest(f"manifest's layer {blob} has no valid size")
    texts = [entry.get(key) or "" for key in ("mediaType", "from", "name")]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidRequest(f"manifest's layer {blob} has a name that is no string")
    media_type, source, name = texts
    return Layer(media_type, blob, size, source, name)


class ManifestStore:
    """The manifests below one store's root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "manifests"

    def path(self, name: ModelName) -> Path:
        """Where the name's manifest is, or would be."""
        return self.directory / name.path

    def read(self, name: ModelName) -> Manifest:
        """The manifest of a name as spelled; raises ModelNotFound, ModelDamaged when it does not parse."""
        try:
            with open_regular(self.path(name)) as file:
                raw = file.read(MAX_MANIFEST_BYTES + 1)
        except IsADirectoryError:
            raise ModelDamaged(name.short, "its manifest is a folder") from None
        except NotRegularFile:
            raise ModelDamaged(name.short, "its manifest is not a regular file") from None
        except (FileNotFoundError, NotADirectoryError):
            if self.path(name).is_symlink():
                raise ModelDamaged(name.short, "its manifest is a link to nothing") from None
            raise ModelNotFound(name.short) from None
        try:
            return Manifest.parse(raw)
        except InvalidRequest as error:
            raise ModelDamaged(name.short, error.why) from error

    def write(self, name: ModelName, raw: bytes) -> None:
        """Store a manifest's bytes under a name, atomically and durably; raises NotEnoughSpace,
        StoreNotWritable.

        The temp file lies directly in `manifests/`, where neither Ollama nor we look for manifests.
        """
        assert name.is_valid, name
        write_atomically(self.path(name), raw, self.directory)

    def delete(self, name: ModelName) -> None:
        """Remove a name and the directories it leaves empty; raises ModelNotFound, StoreNotWritable."""
        path = self.path(name)
        try:
            with writing_to_store(self.root):
                path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, StoreNotWritable) as error:
            if isinstance(error, StoreNotWritable) and not path.is_dir():
                raise  # macOS says EPERM when asked to unlink a directory
            raise ModelNotFound(name.short) from None
        for parent in path.parents[:3]:
            try:
                parent.rmdir()
            except OSError:
                break  # not empty

    def names(self) -> list[ModelName]:
        """All names that have something where a manifest belongs, sorted by their path."""
        return [name for path in self.files() if (name := ModelName.from_path(path))]

    def files(self) -> list[PurePosixPath]:
        """All that stands four levels down, relative to `manifests/`, sorted: valid name or not, a file or not."""
        return sorted(_files_at_depth(self.directory, PurePosixPath(), 4))

    def mtime(self, name: ModelName) -> datetime:
        """When the manifest was written, in local time; raises ModelNotFound."""
        try:
            stat = self.path(name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            raise ModelNotFound(name.short) from None
        return datetime.fromtimestamp(stat.st_mtime, UTC).astimezone()

    def resolve(self, name: ModelName) -> ModelName:
        """The name in the spelling that is stored; parts without a stored spelling stay as they are.

        Each part is matched by itself, ignoring case, against that part of all manifests; the exact spelling wins
        when several are stored. Source: ollama server/routes.go getExistingName, 2026-08.
        """
        if self._is_spelled_exactly(name):
            return name
        stored = [other.path.parts for other in self.names()]
        parts = []
        for index, part in enumerate(name.path.parts):
            spellings = {other[index] for other in stored if other[index].lower() == part.lower()}
            parts.append(part if part in spellings or not spellings else min(spellings))
        return ModelName(parts[0], parts[1], parts[2], parts[3], name.scheme)

    def _is_spelled_exactly(self, name: ModelName) -> bool:
        # Listing beats opening: on a file system that ignores case, opening finds other spellings too.
        directory = self.directory
        for part in name.path.parts:
            try:
                if part not in os.listdir(directory):  # noqa: PTH208  the bare names are wanted
                    return False
            except (FileNotFoundError, NotADirectoryError):
                return False
            directory /= part
        return True


def _files_at_depth(directory: Path, relative: PurePosixPath, depth: int) -> Iterator[PurePosixPath]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            if depth == 1:
                yield relative / entry.name
            elif entry.is_dir():
                yield from _files_at_depth(Path(entry.path), relative / entry.name, depth - 1)
