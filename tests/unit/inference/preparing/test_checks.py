"""What is refused before anything is loaded, where a model in a store is too much to make for it over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.core import Common, Think
from corral.errors import InvalidRequest
from corral.inference.preparing.checks import check_sees, decide_think
from corral.store import ModelConfig, ModelStore
from corral.store import manifests as media
from corral.store.model import Model

GPT_OSS = "<|start|>{{ range .Messages }}{{ .Content }}{{ end }}<|end|>"


def seeing(tmp_path: Path, *families: str) -> Model:
    store = ModelStore(tmp_path / "store")
    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    config = ModelConfig("gguf", families[0], families)
    weights = make_gguf(tmp_path / "m.gguf", "llama", {}, {"w": (2, 2)})
    return store.load(add_model(store, "m", weights, config=config, extra={media.PROJECTOR: projector}))


@pytest.mark.parametrize("families", [("mllama",), ("llama", "mllama")])
def test_mllama_takes_one_image(tmp_path: Path, families: tuple[str, ...]) -> None:
    model = seeing(tmp_path, *families)
    check_sees(model, 1)
    with pytest.raises(InvalidRequest) as caught:
        check_sees(model, 2)
    assert str(caught.value) == "this model only supports one image while more than one image requested"


def test_other_families_take_any_number(tmp_path: Path) -> None:
    check_sees(seeing(tmp_path, "llama"), 9)


@pytest.mark.parametrize(
    ("asked", "decided", "code"),
    [
        (None, True, ""),
        (True, True, ""),
        ("low", "low", ""),
        (256, 256, ""),
        ("max", "high", "think_level_lowered"),
        (False, True, "think_ignored"),
        (0, True, "think_ignored"),
    ],
)
def test_gpt_oss_has_three_levels_and_always_thinks(tmp_path: Path, asked: Think, decided: Think, code: str) -> None:
    store = ModelStore(tmp_path / "store")
    weights = make_gguf(tmp_path / "m.gguf", "gptoss", {}, {"w": (2, 2)})
    model = store.load(add_model(store, "oss", weights, texts={"template": GPT_OSS}))
    think, notices = decide_think(model, Common("oss"), asked)
    assert think == decided
    assert type(think) is type(decided)
    assert [notice.code for notice in notices] == ([code] if code else [])
