"""Library models, turned back into the checkpoints that they came from and imported, answer as they do in Ollama."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.hubfamilies import hub_checkpoint, known
from tests.fakes.library import (
    KitModel,
    differing_completions,
    differing_embeddings,
    differing_media,
    differing_tokens,
    kit,
    model_names,
)

from corral.convert import plan_conversion
from corral.gguf import read_header
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec

pytestmark = pytest.mark.e2e
_MODELS = [
    model
    for model in (KitModel(kit(), name) for name in model_names(kit()))
    if known(read_header(model.weights).architecture) and not model.name.endswith(("-created", "-q4", "-q8"))
]
_OTHER_TOKENS = {"gemma3n"}  # Ollama's file ranks tokens by their number, the checkpoint by its merges
_IMAGE_MIN_TOKENS = {"qwen2vl": 1024, "qwen3vl": 1024, "qwen3vlmoe": 1024}  # as sched/plan.py has it


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="cl-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("model", _MODELS, ids=lambda model: model.name)
async def test_an_imported_checkpoint_answers_as_its_library_file_does(model: KitModel, short_dir: Path) -> None:
    reference = model.reference
    plan = plan_conversion(hub_checkpoint(model.weights, short_dir / "hub"))
    made = plan.write(short_dir / "m.gguf", short_dir / "p.gguf")
    assert (made.projector is not None) is bool(reference.get("images") or reference.get("sounds"))
    spec = RunnerSpec(
        made.path,
        projector_paths=(made.projector,) if made.projector else (),
        context_window=2048,
        n_threads=1,
        embedding=bool(reference.get("embeddings")),
        image_min_tokens=_IMAGE_MIN_TOKENS.get(made.architecture, 0),
    )
    handle = RunnerHandle(spec, LaunchOptions(short_dir / "r", environ=runner_environment()))
    try:
        await handle.start()
        if model.name not in _OTHER_TOKENS:
            assert await differing_tokens(handle.client, reference) == []
        assert await differing_embeddings(handle.client, reference) == []
        assert await differing_completions(handle.client, reference) == []
        assert await differing_media(handle.client, model, "images") == []
        assert await differing_media(handle.client, model, "sounds") == []
    finally:
        await handle.stop()
