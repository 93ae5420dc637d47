"""The library kit's files: what is recognized, and that a translated file needs nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.library import KitModel, kit, model_names, translated

from corral.gguf import read_header
from corral.translate import recognize

UNTOUCHED = {"gpt-oss-created", "nemotron-3-nano", "qwen3-vl-created"}  # in llama.cpp's own layout


@pytest.mark.parametrize("name", model_names(kit()))
def test_a_translated_file_is_in_llama_cpps_layout(name: str, tmp_path: Path) -> None:
    weights = KitModel(kit(), name).weights
    path = translated(weights, tmp_path / "m.gguf")
    assert (path == weights) == (name in UNTOUCHED)
    assert recognize(read_header(path)) is None
