"""Pictures and sounds through library files that have their encoders inside: seen and heard as real Ollama does."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.fakes.encoders import deepseek_ocr
from tests.fakes.ggufs import tiny_llama
from tests.fakes.library import KitModel, differing_media, kit, model_names, translated, translated_projector
from tests.fakes.visions import picture, tiny_projector

from corral.gguf import read_header
from corral.runner.environment import runner_environment
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


async def look(text: Path, projector: Path, folder: Path, *pictures: bytes) -> list[list[float]]:
    """For each picture the log probabilities of the likeliest first tokens."""
    spec = RunnerSpec(text, projector_paths=(projector,), context_window=1024, n_threads=1)
    handle = RunnerHandle(spec, LaunchOptions(folder / projector.stem, environ=runner_environment()))
    try:
        await handle.start()
        marker = str((await handle.client.props())["media_marker"])
        return [await _likeliest(handle, marker, data) for data in pictures]
    finally:
        await handle.stop()


async def _likeliest(handle: RunnerHandle, marker: str, data: bytes) -> list[float]:
    prompt = {"prompt_string": f"look {marker} and say", "multimodal_data": [base64.b64encode(data).decode()]}
    # a letter has to be drawn: half a character comes without probabilities
    body = {"prompt": prompt, "n_predict": 1, "n_probs": 5, "temperature": 0, "grammar": "root ::= [a-z]+"}
    events = [event async for event in handle.client.completion(body)]
    steps = [step for event in events for step in event.get("completion_probabilities") or []]
    return [top["logprob"] for top in steps[0]["top_logprobs"]]


async def test_an_old_llavas_projector_sees_as_one_that_says_its_type(short_dir: Path) -> None:
    text = tiny_llama(short_dir / "m.gguf")
    typed = tiny_projector(short_dir / "typed.gguf")
    untyped = translated_projector(tiny_projector(short_dir / "old.gguf", kind=""), short_dir / "new.gguf")
    assert untyped is not None
    [wanted] = await look(text, typed, short_dir, picture())
    [found] = await look(text, untyped, short_dir, picture())
    assert found == pytest.approx(wanted, abs=1e-4)


async def test_deepseek_ocr_looks_through_both_of_its_encoders(short_dir: Path) -> None:
    file = deepseek_ocr(short_dir / "ollama.gguf")
    projector = translated_projector(file, short_dir / "p.gguf")
    assert projector is not None
    text = translated(file, short_dir / "m.gguf")
    red, same, blue = await look(text, projector, short_dir, picture(), picture(), picture(color=(10, 10, 250)))
    assert np.isfinite(red).all()
    assert same == pytest.approx(red, abs=1e-4)
    assert blue != pytest.approx(red, abs=1e-2)
