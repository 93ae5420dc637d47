"""Loading a translated model against the same model in llama.cpp's own layout, as a ratio within one run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.contenders import load_s
from tests.e2e.conftest import start_server
from tests.fakes.stores import add_model

from corral.gguf import read_header
from corral.store import ModelStore
from corral.translate import recognize, write
from corral.translate.view import View

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

ROUNDS = 9
MOST = 1.1  # of the load of the same weights in the engine's layout


def in_ollamas_layout(source: Path, target: Path) -> Path:
    """Gemma 3 as Ollama's converter wrote it in March 2025: the RoPE base under another name, no epsilon."""
    view = View(read_header(source))
    view.rename({"gemma3.rope.freq_base": "gemma3.rope.global.freq_base"})
    view.drop("gemma3.attention.layer_norm_rms_epsilon")
    with target.open("wb") as file:
        write(source, view.finish(), file)
    assert recognize(read_header(target)) is not None
    return target


def test_a_translated_model_loads_as_fast_as_the_same_in_the_engines_layout(tmp_path: Path, models_dir: Path) -> None:
    store = ModelStore(tmp_path / "models")
    add_model(store, "plain", models_dir / "gemma3.gguf")
    add_model(store, "library", in_ollamas_layout(models_dir / "gemma3.gguf", tmp_path / "library.gguf"))
    server = start_server(tmp_path)
    try:
        first_s = load_s(server, "library")
        load_s(server, "plain")
        times: dict[str, list[float]] = {"plain": [], "library": []}
        for turn in range(ROUNDS):
            for name in sorted(times, reverse=bool(turn % 2)):
                times[name].append(load_s(server, name))
    finally:
        server.stop()
    plain, translated = (min(times[name]) for name in ("plain", "library"))  # the best: others' work only adds
    print(f"\nfirst load, translated on the way: {first_s:.2f} s; later: {translated:.2f} s; plain: {plain:.2f} s")
    assert translated <= MOST * plain, times
