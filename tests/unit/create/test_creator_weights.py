"""Create: shards, quantizing, leaving in the middle, too small disks. All on tiny models."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.fakes.ggufs import make_gguf
from tests.unit.create.bench import Bench

from corral.create.request import CreateRequest
from corral.errors import (
    InvalidRequest,
    NotEnoughSpace,
    QuantizationError,
)
from corral.gguf import read_header
from corral.names import Digest, ModelName


def write_shards(folder: Path, count: int) -> list[Path]:
    paths = []
    for index in range(count):
        path = folder / f"m-{index + 1:05}-of-{count:05}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_file_type(1)
        writer.add_uint16("split.no", index)
        writer.add_uint16("split.count", count)
        for part in "ab":
            writer.add_tensor(f"blk.{index}.{part}.weight", np.full((8, 32), index, np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths


async def test_shards_are_merged_into_one_model(bench: Bench) -> None:
    shards = {path.name: bench.upload(path) for path in write_shards(bench.root, 3)}
    statuses = await bench.statuses(files=shards)
    assert statuses[:3] == ["parsing GGUF", "validating GGUF model", "verifying conversion"]
    header = read_header(bench.load().weights)
    assert not any("split" in key for key in header.metadata)
    tensors = {t.name: t.data for t in gguf.GGUFReader(bench.load().weights).tensors}
    assert sorted(tensors) == [f"blk.{index}.{part}.weight" for index in range(3) for part in "ab"]
    assert all((data == int(name.split(".")[1])).all() for name, data in tensors.items())
    assert bench.load().config.model_type == "2K"


async def test_shards_are_quantized_as_one_model(bench: Bench) -> None:
    shards = {path.name: bench.upload(path) for path in write_shards(bench.root, 2)}
    await bench.statuses(files=shards, quantize="q8_0")
    header = read_header(bench.load().weights)
    assert (header.file_type, len(header.tensors)) == ("Q8_0", 4)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a.gguf", "b.gguf"], 'split GGUF "a.gguf" must use llama.cpp split filename pattern'),
        (["m-00001-of-00002.gguf"], 'split GGUF "m-00001-of-00002.gguf" has 1 shards, expected 2'),
        (
            ["m-00001-of-00003.gguf"],
            'split GGUF "m-00001-of-00003.gguf" filename count 3 does not match metadata count 2',
        ),
        (
            ["m-00002-of-00002.gguf"],
            'split GGUF "m-00002-of-00002.gguf" filename index 1 does not match metadata index 0',
        ),
    ],
)
async def test_wrong_shards_are_refused(bench: Bench, names: list[str], text: str) -> None:
    shards = write_shards(bench.root, 2)
    with pytest.raises(InvalidRequest) as caught:
        await bench.statuses(files={name: bench.upload(path) for name, path in zip(names, shards, strict=False)})
    assert str(caught.value) == text


async def test_quantizing_a_model_shows_progress_and_makes_a_new_layer(bench: Bench) -> None:
    digest = bench.tiny(chat_template=None)
    lines = await bench.lines(files={"tiny.gguf": digest}, quantize="q8_0")
    work = [line for line in lines if line.status == "quantizing F32 model to Q8_0"]
    size = bench.store.blobs.size(Digest.parse(digest))
    assert {(line.digest, line.total) for line in work} == {("0" * 19, size)}
    assert work[-1].completed == size
    assert [line.status for line in lines if line not in work] == [
        "parsing GGUF",
        "verifying conversion",
        f"creating new layer {bench.layers()['model']}",
        "writing manifest",
        "success",
    ]
    assert bench.load().config.file_type == "Q8_0"
    again = await bench.statuses("again", files={"tiny.gguf": digest}, quantize="q8_0")
    assert f"using existing layer {bench.layers()['model']}" in again


async def test_quantizing_to_the_type_it_has_changes_nothing(bench: Bench) -> None:
    path = make_gguf(bench.root / "f16", metadata={"general.file_type": 1}, tensors={"a.weight": [4, 4]})
    digest = bench.upload(path)
    await bench.statuses(files={"a.gguf": digest}, quantize="f16")
    assert bench.layers() == {"model": digest}


async def test_a_draft_can_be_quantized_alone(bench: Bench) -> None:
    await bench.statuses("base", files={"tiny.gguf": bench.tiny(chat_template=None)})
    draft = bench.tiny("draft.gguf", seed=1, chat_template=None)
    await bench.statuses(from_="base", draft_files={"draft.gguf": draft}, draft_quantize="q8_0")
    assert read_header(bench.load().draft).file_type == "Q8_0"
    q4 = bench.upload(make_gguf(bench.root / "q", metadata={"general.file_type": 2}, tensors={"a.weight": [4, 4]}))
    with pytest.raises(QuantizationError, match="draft quantization requires an unquantized draft model, got Q4_0"):
        await bench.statuses(from_="base", draft_files={"d.gguf": q4}, draft_quantize="q8_0")


@pytest.mark.parametrize("stop_at", ["parsing GGUF", "quantizing F32 model to Q8_0", "writing manifest"])
async def test_a_caller_who_leaves_leaves_nothing_behind(bench: Bench, stop_at: str) -> None:
    files = {"tiny.gguf": bench.tiny()}
    before = bench.blob_files()
    request = CreateRequest(name=ModelName.parse("made"), files=files, quantize="q8_0", system="S")
    statuses = bench.creator.create(request)
    async for status in statuses:
        if status.status == stop_at:
            break
    await statuses.aclose()  # type: ignore[attr-defined]
    assert bench.blob_files() == before
    assert bench.store.manifests.names() == []


async def test_a_cancelled_create_leaves_nothing_behind(bench: Bench) -> None:
    files = {"tiny.gguf": bench.tiny(layers=8, width=256)}
    before = bench.blob_files()
    started = asyncio.Event()

    async def create() -> None:
        async for status in bench.creator.create(
            CreateRequest(name=ModelName.parse("made"), files=files, quantize="q4_0")
        ):
            if status.status.startswith("quantizing"):
                started.set()

    task = asyncio.create_task(create())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.blob_files() == before
    assert bench.store.manifests.names() == []


async def test_a_disk_that_is_too_small_is_told_before_the_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"tiny.gguf": bench.tiny()}
    before = bench.blob_files()
    monkeypatch.setattr("corral.store.blobs.free_bytes", lambda _path: 1000)
    with pytest.raises(NotEnoughSpace, match="not enough space: need"):
        await bench.statuses(files=files, quantize="q8_0")
    assert bench.blob_files() == before


async def test_an_uploaded_model_needs_no_second_copy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"tiny.gguf": bench.tiny(layers=4, width=128)}
    monkeypatch.setattr("corral.store.blobs.free_bytes", lambda _path: 10_000)
    assert (await bench.statuses(files=files))[-1] == "success"


async def test_a_modelfile_makes_the_same_model(bench: Bench) -> None:
    await bench.statuses("base", files={"tiny.gguf": bench.tiny()})
    text = 'FROM base\nSYSTEM "You are Mario."\nPARAMETER temperature 0.4\n'
    by_text = await bench.statuses("one", modelfile=text)
    by_fields = await bench.statuses("two", from_="base", system="You are Mario.", parameters={"temperature": 0.4})
    assert bench.layers("one") == bench.layers("two")
    assert [line.replace("creating new", "using existing") for line in by_text] == by_fields


@pytest.mark.parametrize(
    ("architecture", "renderer", "parser", "parameters"),
    [
        ("gemma4", "gemma4", "gemma4", {"stop": ["<turn|>"]}),
        ("laguna", "laguna", "laguna", {}),
        ("nemotron_h", "nemotron-3-nano", "nemotron-3-nano", {}),
    ],
)
async def test_some_architectures_bring_their_renderer_and_parser(
    bench: Bench, architecture: str, renderer: str, parser: str, parameters: dict[str, Any]
) -> None:
    digest = bench.upload(make_gguf(bench.root / "m", architecture, tensors={"a.weight": [4, 4]}))
    await bench.statuses(files={"m.gguf": digest})
    model = bench.load()
    assert (model.config.renderer, model.config.parser, model.parameters) == (renderer, parser, parameters)
