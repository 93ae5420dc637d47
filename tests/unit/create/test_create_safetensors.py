from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.checkpoints import write_adapter, write_checkpoint
from tests.fakes.stores import add_model

from corral.core import TransferStatus
from corral.create.background import Background
from corral.create.flow import Creator
from corral.create.request import CreateRequest
from corral.errors import InvalidRequest
from corral.gguf import read_header
from corral.names import ModelName
from corral.store import ModelStore
from corral.store import manifests as media

REFERENCE = json.loads((Path(__file__).parents[2] / "golden" / "convert.json").read_text())
MADE = ModelName.parse("made")


async def no_pull(_reference: str) -> AsyncIterator[TransferStatus]:
    raise AssertionError("nothing is to be pulled here")
    yield


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def upload(store: ModelStore, files: dict[str, Path]) -> dict[str, str]:
    return {name: str(store.blobs.put(path.read_bytes())[0]) for name, path in files.items()}


def checkpoint(store: ModelStore, folder: Path) -> dict[str, str]:
    reference = REFERENCE["llama"]
    return upload(store, write_checkpoint(folder, reference["config"], reference["shapes"]))


async def statuses(store: ModelStore, **fields: Any) -> list[str]:
    found: list[str] = []
    async for line in Creator(store, no_pull).create(CreateRequest(name=MADE, **fields)):
        if not found or found[-1] != line.status:
            found.append(line.status)
    return found


async def test_a_checkpoint_is_converted_and_stored(store: ModelStore, tmp_path: Path) -> None:
    lines = await statuses(store, files=checkpoint(store, tmp_path / "m"))
    model = store.load(MADE)
    assert model.weights is not None
    digest = model.weights.name.replace("-", ":")
    assert lines == [
        "converting model",
        "verifying conversion",
        f"creating new layer {digest}",
        "writing manifest",
        "success",
    ]
    assert (model.config.model_family, model.config.file_type) == ("llama", "F16")
    assert not any(name.startswith("corral-") for name in store.blobs.file_names())


async def test_a_conversion_that_is_quantized_leaves_no_intermediate(store: ModelStore, tmp_path: Path) -> None:
    files = checkpoint(store, tmp_path / "m")
    before = set(store.blobs.digests())
    lines = await statuses(store, files=files, quantize="q8_0")
    assert lines[:3] == ["converting model", "quantizing F16 model to Q8_0", "verifying conversion"]
    assert set(store.blobs.digests()) - before == store.manifests.read(MADE).digests


async def test_an_adapter_is_converted_for_its_base(store: ModelStore, tmp_path: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.v_proj"
    shapes = {f"{name}.lora_A.weight": (2, 64), f"{name}.lora_B.weight": (64, 2)}
    adapter = upload(store, write_adapter(tmp_path / "a", {"lora_alpha": 4, "r": 2}, shapes))
    lines = await statuses(store, files=checkpoint(store, tmp_path / "m"), adapters=adapter)
    assert lines[:3] == ["converting model", "converting adapter", "verifying conversion"]
    (path,) = store.load(MADE).adapters
    assert read_header(path).is_adapter
    kinds = [layer.media_type for layer in store.manifests.read(MADE).layers]
    assert kinds == [media.MODEL, media.ADAPTER]


async def test_a_broken_checkpoint_leaves_nothing_behind(store: ModelStore, tmp_path: Path) -> None:
    files = checkpoint(store, tmp_path / "m")
    files["config.json"] = str(store.blobs.put(b'{"architectures": ["NoSuchModel"]}')[0])
    before = store.blobs.file_names()
    with pytest.raises(InvalidRequest, match='unsupported architecture "NoSuchModel"'):
        await statuses(store, files=files)
    assert store.blobs.file_names() == before


async def test_safetensors_adapters_and_drafts_need_more_than_they_have(store: ModelStore, tmp_path: Path) -> None:
    adapter = upload(store, write_adapter(tmp_path / "a", {"lora_alpha": 4, "r": 2}, {"x.lora_A.weight": (2, 2)}))
    add_model(store, "empty", texts={"system": "no weights"})
    with pytest.raises(InvalidRequest, match="no base model was found"):
        await statuses(store, from_="empty", adapters=adapter)
    draft = {"m.safetensors": adapter["adapter_model.safetensors"]}
    with pytest.raises(InvalidRequest, match="a draft model must be a GGUF file"):
        await statuses(store, files=checkpoint(store, tmp_path / "m"), draft_files=draft)


def test_closing_stops_the_work_at_its_next_sign_of_life() -> None:
    calls: list[int] = []

    def work(progress: Any) -> None:
        for done in range(1, 1000):
            calls.append(done)
            progress(done, 1000)
            background._stop.wait()

    background = Background(work)
    steps = background.steps("converting model")
    assert next(steps) == TransferStatus("converting model", total=1000, completed=1)
    steps.close()
    assert calls == [1, 2]


def test_what_the_work_raises_is_raised_again() -> None:
    def work(_progress: Any) -> None:
        raise InvalidRequest("no good")

    with pytest.raises(InvalidRequest, match="no good"):
        list(Background(work).steps("converting model"))
