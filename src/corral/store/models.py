"""`ModelStore`: the one door to the models on disk: resolve, load, list, copy, delete, clean up.

Plain blocking code; the server calls it through `aio.run_blocking`. Safe for several threads and processes: every
file appears whole or not at all, and removal of blobs is one critical section (`BlobStore.locked`) that knows all
manifests and all reservations. Who makes a model (create, pull) does it inside `reserve`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from corral.config import Settings
from corral.core import Capability
from corral.errors import (
    BlobMissing,
    BlobNotFound,
    CloudDisabled,
    CorralError,
    InvalidRequest,
    ModelDamaged,
    ModelNotFound,
)
from corral.gguf import GGUFHeader, read_header
from corral.names import Digest, ModelName, split_source
from corral.store import manifests as media
from corral.store.blobs import BlobStore
from corral.store.derived import DerivedStore
from corral.store.files import open_temp, writing_to_store
from corral.store.footprint import WeighedCache, header_bytes, model_bytes
from corral.store.layers import decode_text, max_bytes, parse_messages, parse_params
from corral.store.manifests import Layer, Manifest, ManifestStore
from corral.store.model import Model
from corral.store.modelconfig import ModelConfig

__all__ = ["Model", "ModelConfig", "ModelStore", "ModelSummary"]

_log = logging.getLogger(__name__)
DERIVED = "derived"  # the directory of translated files, beside blobs/
_CACHED_MODELS = 256
_CACHED_MODEL_BYTES = 32 * 2**20  # of all cached models together; one takes some 150 KB, mostly its header
_CACHED_HEADERS = 64
_CACHED_HEADER_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A row of the model list, with the fields of /api/tags."""

    name: ModelName
    digest: str  # bare hex
    size_bytes: int
    modified_at: datetime
    parent_model: str
    format: str
    family: str
    families: tuple[str, ...] | None
    parameter_size: str
    quantization_level: str
    context_length: int
    embedding_length: int
    capabilities: tuple[Capability, ...]
    remote_host: str = ""
    remote_model: str = ""
    problem: str = ""  # why the model cannot be used; empty when nothing is known against it


class ModelStore:
    """The models below `root`. `no_prune` keeps unreferenced blobs except on delete; `gc_grace_s` see care.py.

    spare: where translated files go when the store cannot be written. engine_is_ours: see Model.
    """

    def __init__(
        self,
        root: Path,
        *,
        no_prune: bool = False,
        gc_grace_s: float = 3600,
        go_template: bool | None = None,
        spare: Path | None = None,
        engine_is_ours: bool = True,
    ) -> None:
        self.root = root
        self.blobs = BlobStore(root)
        self.manifests = ManifestStore(root)
        self.derived = DerivedStore(root / DERIVED, *([] if spare is None else [spare / DERIVED]))
        self.no_prune = no_prune
        self.gc_grace_s = gc_grace_s
        self._go_template = go_template
        self.engine_is_ours = engine_is_ours
        self._models: WeighedCache[tuple[ModelName, str], Model] = WeighedCache(
            _CACHED_MODEL_BYTES, _CACHED_MODELS, model_bytes
        )
        self._reported: dict[ModelName, str] = {}  # so that every list does not log the same again
        self._headers: WeighedCache[tuple[Path, int, int, int], GGUFHeader] = WeighedCache(
            _CACHED_HEADER_BYTES, _CACHED_HEADERS, header_bytes
        )

    @classmethod
    def of(cls, settings: Settings, *, gc_grace_s: float = 3600) -> ModelStore:
        """The store that the settings name."""
        return cls(
            settings.models,
            no_prune=settings.no_prune,
            gc_grace_s=gc_grace_s,
            go_template=settings.go_template,
            spare=settings.home,
            engine_is_ours=not settings.llama_server,
        )

    def check_writable(self) -> None:
        """Make the folder if it is not there, and write to it what is gone at once.

        Raises StoreNotWritable, NotEnoughSpace.
        """
        with writing_to_store(self.root):
            for directory in (self.manifests.directory, self.blobs.directory):
                path, file = open_temp(directory if directory.is_dir() else self.root)
                file.close()
                path.unlink()

    def resolve(self, text: str) -> ModelName:
        """The stored spelling of a name as a caller wrote it; the model need not exist.

        Raises InvalidModelName, CloudDisabled for a cloud name.
        """
        source = split_source(text)
        name = ModelName.parse(source.name)
        if source.source == "cloud":
            raise CloudDisabled
        return self.manifests.resolve(name)

    def load(self, name: ModelName) -> Model:
        """The model of a name as `resolve` gave it, with the headers of its files read.

        Raises ModelNotFound, BlobMissing when a file is gone, ModelDamaged when one cannot be understood.
        """
        manifest = self.manifests.read(name)
        modified_at = self.manifests.mtime(name)
        self._require_blobs(name, manifest)
        key = (name, manifest.digest_hex)
        kept = self._models.get(key)
        if kept is not None and kept.modified_at == modified_at:
            kept.read_files()
            return kept
        model = replace(kept, modified_at=modified_at) if kept else self._read(name, manifest, modified_at)
        model.read_files()
        self._models.put(key, model)
        return model

    def list(self) -> list[ModelSummary]:
        """All models, newest first by whole seconds, then by name.

        One that cannot be used is listed with `problem` set, and with what its manifest and config still say of it.
        """
        rows = []
        for name in self.manifests.names():
            try:
                rows.append(self._summarize(name))
            except ModelNotFound:
                continue  # removed meanwhile
            except (CorralError, OSError) as error:
                self._report_once(name, error)
                rows.append(self._unreadable(name, error))
        return sorted(rows, key=lambda row: (-int(row.modified_at.timestamp()), row.name.short))

    def _report_once(self, name: ModelName, error: Exception) -> None:
        if str(error) != self._reported.get(name):
            _log.warning("%s cannot be read: %s", name, error)
        self._reported[name] = str(error)

    def _unreadable(self, name: ModelName, error: Exception) -> ModelSummary:
        """A row for a model of which nothing but its name is known."""
        try:
            modified_at = self.manifests.mtime(name)
        except (ModelNotFound, OSError):
            modified_at = datetime.fromtimestamp(0, UTC)
        problem = (error.strerror or "") if isinstance(error, OSError) else str(error)
        return ModelSummary(name, "", 0, modified_at, "", "", "", None, "", "", 0, 0, (), problem=problem)

    def copy(self, source: ModelName, destination: ModelName) -> None:
        """Give a model a second name; raises ModelNotFound. A name copied to itself is left alone, even if absent."""
        if source == destination:
            return
        with self.blobs.locked():
            self.manifests.write(destination, self.manifests.read(source).encode())

    def write(self, name: ModelName, manifest: Manifest) -> None:
        """Store a manifest once all its blobs are there; raises BlobMissing, NotEnoughSpace."""
        with self.blobs.locked():
            self._require_blobs(name, manifest)
            self.manifests.write(name, manifest.encode())

    def delete(self, name: ModelName) -> Sequence[Digest]:
        """Remove a name and the blobs nothing else refers to; returns their digests. Raises ModelNotFound."""
        with self.blobs.locked():  # a create of the same name comes before or after, never between
            try:
                digests = self.manifests.read(name).digests
            except ModelDamaged:
                digests = set()  # nothing can be told from it; the next start's pruning finds what it leaves
            self.manifests.delete(name)
        return self.release_unreferenced(digests)

    def release_unreferenced(self, digests: Iterable[Digest]) -> Sequence[Digest]:
        """Remove those of `digests` that no manifest and no reservation names; returns what was removed.

        Nothing is removed while a manifest cannot be read: what it refers to is not known.
        """
        candidates = set(digests)
        if not candidates:
            return []
        with self.blobs.locked():
            unreadable = self.unreadable_manifest()
            if unreadable:
                _log.warning("%d blobs that may be unused are kept: %s", len(candidates), unreadable)
                return []
            doomed = sorted(candidates - self.referenced() - self.blobs.reserved())
            removed = [digest for digest in doomed if self.blobs.has(digest)]
            for digest in removed:
                self.blobs.remove(digest)
                self.derived.remove(digest)
        return removed

    def referenced(self) -> set[Digest]:
        """Every digest that a readable manifest names."""
        found: set[Digest] = set()
        for name in self.manifests.names():
            with contextlib.suppress(CorralError):
                found |= self.manifests.read(name).digests
        return found

    def unreadable_manifest(self) -> str:
        """What is wrong with the first manifest that cannot be read or has no valid name; empty when all can."""
        for path in self.manifests.files():
            name = ModelName.from_path(path)
            if name is None:
                return f"manifests/{path} is no valid name"
            try:
                self.manifests.read(name)
            except ModelNotFound:
                continue  # removed meanwhile
            except CorralError as error:
                return str(error)
            except OSError as error:
                return f"model {name.short!r} is damaged: {error.strerror}"
        return ""

    def header(self, path: Path) -> GGUFHeader:
        """The GGUF header of a blob, remembered while the file stays the same; raises InvalidGGUF, OSError."""
        stat = path.stat()
        key = (path, stat.st_dev, stat.st_ino, stat.st_size)
        header = self._headers.get(key)
        if header is None:
            header = read_header(path)
            self._headers.put(key, header)
        return header

    def _require_blobs(self, name: ModelName, manifest: Manifest) -> None:
        for layer in manifest.all_layers:
            try:
                size = self.blobs.size(layer.digest)
            except BlobNotFound:
                raise BlobMissing(name.short, str(layer.digest)) from None
            if size != layer.size:
                raise ModelDamaged(name.short, f"blob {layer.digest} has {size} bytes instead of {layer.size}")

    def _read(self, name: ModelName, manifest: Manifest, modified_at: datetime) -> Model:
        try:
            config = self._config(manifest)
            return Model(
                name=name,
                manifest=manifest,
                config=config,
                modified_at=modified_at,
                go_template_setting=self._go_template,
                engine_is_ours=self.engine_is_ours,
                read_header=self.header,
                **self._layer_fields(manifest, config),
            )
        except InvalidRequest as error:
            raise ModelDamaged(name.short, error.why) from error

    def _config(self, manifest: Manifest) -> ModelConfig:
        return ModelConfig() if manifest.config is None else ModelConfig.parse(self._bytes(manifest.config))

    def _layer_fields(self, manifest: Manifest, config: ModelConfig) -> dict[str, Any]:
        """What the layers say. Later layers win; params are merged; licenses, adapters and projectors add up."""
        weights = manifest.of_type(media.MODEL)
        templates = manifest.of_type(media.TEMPLATE, media.PROMPT)
        systems, messages = manifest.of_type(media.SYSTEM), manifest.of_type(media.MESSAGES)
        drafts = manifest.of_type(media.DRAFT)
        parameters: dict[str, Any] = {}
        for layer in manifest.of_type(media.PARAMS):
            parameters |= parse_params(self._bytes(layer))
        return {
            "weights": self.blobs.path(weights[-1].digest) if weights and config.is_gguf else None,
            "parent_model": weights[-1].source if weights else "",
            "projectors": tuple(self.blobs.path(layer.digest) for layer in manifest.of_type(media.PROJECTOR)),
            "adapters": tuple(self.blobs.path(layer.digest) for layer in manifest.of_type(media.ADAPTER)),
            "draft": self.blobs.path(drafts[-1].digest) if drafts else None,
            "template": decode_text(self._bytes(templates[-1])) if templates else None,
            "system": decode_text(self._bytes(systems[-1])) if systems else "",
            "parameters": parameters,
            "messages": parse_messages(self._bytes(messages[-1])) if messages else (),
            "licenses": tuple(decode_text(self._bytes(layer)) for layer in manifest.of_type(media.LICENSE)),
        }

    def _bytes(self, layer: Layer) -> bytes:
        return self.blobs.read(layer.digest, max_bytes(layer.media_type))

    def _summarize(self, name: ModelName) -> ModelSummary:
        try:
            model, problem = self.load(name), ""
            if model.weights is not None and model.traits.header is None:
                problem = "the weights are not readable"
        except (BlobMissing, ModelDamaged) as error:
            manifest = self.manifests.read(name)
            config = self._config(manifest)
            modified_at = self.manifests.mtime(name)
            model = Model(name, manifest, config, modified_at, read_header=self.header)
            problem = str(error)
        return ModelSummary(
            name=name,
            digest=model.digest,
            size_bytes=model.size_bytes,
            modified_at=model.modified_at,
            parent_model=model.parent_model,
            format=model.config.model_format,
            family=model.family,
            families=model.families,
            parameter_size=model.parameter_size,
            quantization_level=model.tags_quantization_level,
            context_length=model.context_length,
            embedding_length=model.embedding_length,
            capabilities=() if problem else model.tags_capabilities,
            remote_host=model.config.remote_host,
            remote_model=model.config.remote_model,
            problem=problem,
        )
