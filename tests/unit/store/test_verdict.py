from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.library import GOLDEN, KitModel
from tests.fakes.stores import add_model

from corral.gguf import GGUFHeader, read_header
from corral.store import ModelStore
from corral.store import manifests as media
from corral.store.modelconfig import ModelConfig
from corral.store.verdict import judge


def header_of(folder: Path, architecture: str, **tensors: Any) -> GGUFHeader:
    return read_header(make_gguf(folder / "m.gguf", architecture, {}, tensors or {"w": (2, 2)}))


def test_a_model_in_the_engines_layout_runs(tmp_path: Path) -> None:
    verdict = judge(header_of(tmp_path, "llama"), ModelConfig(), has_projector=False)
    assert (verdict.runs, verdict.is_translated, str(verdict)) == (True, False, "runs here")


def test_a_projector_layer_gives_it_eyes(tmp_path: Path) -> None:
    assert str(judge(header_of(tmp_path, "llama"), ModelConfig(), has_projector=True)) == "runs here, sees images"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gemma3-text", "runs here"),
        ("gemma3-vision-q4", "runs here, sees images"),
        ("gemma4", "runs here, sees images, hears sounds"),
    ],
)
def test_ollamas_layouts_run_with_what_is_inside_them(name: str, text: str) -> None:
    verdict = judge(read_header(KitModel(GOLDEN, name).weights), ModelConfig(), has_projector=False)
    assert verdict.is_translated
    assert str(verdict) == text


def test_an_unknown_architecture_is_named_with_what_could_be_done(tmp_path: Path) -> None:
    verdict = judge(header_of(tmp_path, "solar"), ModelConfig(), has_projector=False)
    assert not verdict.runs
    assert str(verdict).startswith('cannot run here: its architecture, "solar", is not one that')
    assert "newer Corral" in verdict.why_not
    assert "another build" in verdict.why_not


def test_an_engine_of_the_owners_choice_may_know_any_architecture(tmp_path: Path) -> None:
    assert judge(header_of(tmp_path, "solar"), ModelConfig(), has_projector=False, engine_is_ours=False).runs


def test_a_file_that_does_not_fit_its_layout_is_refused_by_the_tensor(tmp_path: Path) -> None:
    verdict = judge(header_of(tmp_path, "gptoss"), ModelConfig(), has_projector=False)
    assert "tensor 'blk.0.ffn_gate_exps.weight': is not there" in verdict.why_not


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (
            ModelConfig(model_format="safetensors"),
            "its weights are no GGUF but safetensors, and nothing else runs here",
        ),
        (ModelConfig(remote_host="https://ollama.com:443"), "it runs in Ollama's cloud, and Corral has none"),
        (ModelConfig(model_format="gguf"), "its weights are missing or unreadable"),
    ],
)
def test_without_weights_that_can_be_read_nothing_runs(config: ModelConfig, why: str) -> None:
    assert judge(None, config, has_projector=False).why_not == why


@pytest.mark.parametrize(
    ("cut", "named"), [(lambda raw: raw[:-8], "blk.0.attn_k.weight"), (lambda raw: raw[:100], "ends inside")]
)
def test_a_file_that_is_cut_is_refused_by_what_is_not_all_there(
    tmp_path: Path, cut: Callable[[bytes], bytes], named: str
) -> None:
    shapes = {"token_embd.weight": [32, 64], "blk.0.attn_k.weight": [32, 32]}
    path = make_gguf(tmp_path / "m.gguf", "gemma3", {"gemma3.block_count": 1}, shapes)
    path.write_bytes(cut(path.read_bytes()))
    store = ModelStore(tmp_path / "models")
    name = add_model(store, "cut", extra={media.MODEL: path}, config=ModelConfig(model_format="gguf"))
    why = store.load(name).verdict.why_not
    assert why.startswith("its weights cannot be read: invalid GGUF: ")
    assert named in why
