"""A store and a Creator over it, for tests of create."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.fakes.ggufs import tiny_llama
from tests.fakes.stores import add_model

from corral.core import TransferStatus
from corral.create.flow import Creator
from corral.create.request import CreateRequest
from corral.errors import (
    RegistryError,
)
from corral.names import ModelName
from corral.store import ModelStore


class Bench:
    """A store, a Creator over it, and short ways to use them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = ModelStore(root / "models")
        self.pulled: list[str] = []
        self.creator = Creator(self.store, self.pull)
        self.pull_brings: Path | None = None

    async def pull(self, reference: str) -> AsyncIterator[TransferStatus]:
        self.pulled.append(reference)
        yield TransferStatus("pulling manifest")
        if self.pull_brings is None:
            raise RegistryError("pull model manifest: file does not exist")
        add_model(self.store, reference, self.pull_brings)
        yield TransferStatus("success")

    def upload(self, data: bytes | Path) -> str:
        return str(self.store.blobs.put(data.read_bytes() if isinstance(data, Path) else data)[0])

    def tiny(self, name: str = "tiny.gguf", **options: Any) -> str:
        return self.upload(tiny_llama(self.root / name, **options))

    async def lines(self, name: str = "made", **fields: Any) -> list[TransferStatus]:
        request = CreateRequest(name=ModelName.parse(name), **fields)
        return [status async for status in self.creator.create(request)]

    async def statuses(self, name: str = "made", **fields: Any) -> list[str]:
        found: list[str] = []
        for line in await self.lines(name, **fields):
            if not found or found[-1] != line.status:
                found.append(line.status)
        return found

    def layers(self, name: str = "made") -> dict[str, str]:
        manifest = self.store.manifests.read(ModelName.parse(name))
        return {layer.media_type.rpartition(".")[2]: str(layer.digest) for layer in manifest.layers}

    def load(self, name: str = "made") -> Any:
        return self.store.load(ModelName.parse(name))

    def blob_files(self) -> set[str]:
        return set(self.store.blobs.file_names())
