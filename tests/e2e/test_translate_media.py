"""Pictures and sounds through library files that have their encoders inside: seen and heard as real Ollama does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.library import KitModel, differing_media, kit, model_names, translated, translated_projector

from corral.config import runner_environment
from corral.gguf import read_header
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec
from corral.translate import recognize

pytestmark = pytest.mark.e2e
_MODELS = [KitModel(kit(), name) for name in model_names(kit())]
_WITH_SENSES = [model for model in _MODELS if model.reference.get("images") or model.reference.get("sounds")]
_IMAGE_MIN_TOKENS = {"qwen25vl": 1024, "qwen3vl": 1024, "qwen3vlmoe": 1024}  # as sched/plan.py has it


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="tm-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("model", _WITH_SENSES, ids=lambda model: model.name)
async def test_pictures_and_sounds_are_what_they_are_in_ollama(model: KitModel, short_dir: Path) -> None:
    inside = translated_projector(model.weights, short_dir / "p.gguf")
    spec = RunnerSpec(
        translated(model.weights, short_dir / "m.gguf"),
        projector_paths=(inside,) if inside else tuple(model.projectors),
        context_window=2048,
        n_threads=1,
        image_min_tokens=_IMAGE_MIN_TOKENS.get(read_header(model.weights).architecture, 0),
    )
    handle = RunnerHandle(spec, LaunchOptions(short_dir / "r", environ=runner_environment()))
    try:
        await handle.start()
        assert await differing_media(handle.client, model, "images") == []
        assert await differing_media(handle.client, model, "sounds") == []
    finally:
        await handle.stop()


@pytest.mark.parametrize("model", _MODELS, ids=lambda model: model.name)
def test_a_layout_has_the_senses_that_ollama_says(model: KitModel) -> None:
    layout = recognize(read_header(model.weights))
    said = model.reference["api"]["capabilities"]
    assert (layout is not None and layout.sees) is ("vision" in said and not model.projectors)
    assert (layout is not None and layout.hears) is ("audio" in said)
