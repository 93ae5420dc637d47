"""Library files in Ollama's own layouts, translated, answer as real Ollama (or the models' makers) do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.library import (
    KitModel,
    differing_completions,
    differing_embeddings,
    differing_tokens,
    kit,
    model_names,
    translated,
)

from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec

pytestmark = pytest.mark.e2e


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="tl-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", model_names(kit()))
async def test_a_library_model_answers_as_it_does_in_ollama(name: str, short_dir: Path) -> None:
    model = KitModel(kit(), name)
    reference = model.reference
    path = translated(model.weights, short_dir / "m.gguf")
    spec = RunnerSpec(path, context_window=1024, n_threads=1, embedding=bool(reference.get("embeddings")))
    handle = RunnerHandle(spec, LaunchOptions(short_dir / "r", environ=runner_environment()))
    try:
        await handle.start()
        assert await differing_tokens(handle.client, reference) == []
        assert await differing_embeddings(handle.client, reference) == []
        assert await differing_completions(handle.client, reference) == []
    finally:
        await handle.stop()
