"""Answers that are drafted ahead: the engine drafts in the way that the files are made for, and says the same words."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import tiny_llama
from tests.fakes.library import SHARED, add_kit_model

from corral.config import Settings
from corral.runner.enginefiles import EngineFiles
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec
from corral.sched.memory import HostFigures
from corral.sched.plan import plan
from corral.store import ModelStore
from corral.store.model import Model

pytestmark = pytest.mark.e2e

HOST = HostFigures(2**36, 2**36)
WITH_MTP = "qwen3.5-moe-mtp"


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="dr-") as folder:
        yield Path(folder)


async def answer(spec: RunnerSpec, files: EngineFiles, folder: Path) -> tuple[str, int]:
    """A greedy answer, and how many of its tokens were drafted."""
    handle = RunnerHandle(spec, LaunchOptions(folder, environ=runner_environment()), files)
    body = {"prompt": "Hello world", "n_predict": 24, "temperature": 0, "top_k": 1, "ignore_eos": True}
    text, timings = "", dict[str, Any]()
    try:
        await handle.start()
        async for event in handle.client.completion(body):
            text += event.get("content", "")
            timings = event.get("timings", timings)
    finally:
        await handle.stop()
    return text, int(timings.get("draft_n", 0))


def spec_of(model: Model, **options: Any) -> RunnerSpec:
    return plan(model, {"num_ctx": 512, **options}, Settings(num_parallel=1), HOST).spec


async def test_a_plain_draft_model_drafts(short_dir: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    path, draft = tiny_llama(tmp_path / "m.gguf"), tiny_llama(tmp_path / "d.gguf", layers=1)
    spec = RunnerSpec(path, draft_path=draft, draft_num_predict=4, speculation="draft-simple", context_window=512)
    drafted = await answer(spec, EngineFiles(store), short_dir / "1")
    plain = await answer(RunnerSpec(path, context_window=512), EngineFiles(store), short_dir / "2")
    assert drafted[1] > 0
    assert plain == (drafted[0], 0)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the whole library kit is not beside this checkout")
async def test_layers_inside_the_weights_draft_when_asked_for(short_dir: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    model, files = store.load(add_kit_model(store, WITH_MTP, SHARED)), EngineFiles(store)
    plain = await answer(spec_of(model), files, short_dir / "1")
    drafted = await answer(spec_of(model, draft_num_predict=3), files, short_dir / "2")
    assert drafted[1] > 0
    assert plain == (drafted[0], 0)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the whole library kit is not beside this checkout")
async def test_a_draft_layer_with_such_layers_drafts(short_dir: Path, tmp_path: Path) -> None:
    """As `ollama create` makes it: the base model's file with the layers added."""
    store = ModelStore(tmp_path)
    model, files = store.load(add_kit_model(store, WITH_MTP, SHARED)), EngineFiles(store)
    spec = spec_of(replace(model, draft=model.weights))
    assert (spec.speculation, spec.draft_num_predict) == ("draft-mtp", 4)
    assert (await answer(spec, files, short_dir / "1"))[1] > 0
