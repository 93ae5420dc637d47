"""What is refused before anything is loaded, where a model in a store is too much to make for it over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.core import Common, Think
from corral.errors import InvalidRequest
from corral.inference.preparing.checks import check_sees, decide_think
from corral.store import ModelStore
from corral.store import manifests as media

GPT_OSS = "<|start|>{{ range .Messages }}{{ .Content }}{{ end }}<|end|>"


def test_only_a_model_with_a_projector_takes_images(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    projector = make_gguf(tmp_path / "p.gguf", "clip", {"clip.has_vision_encoder": True}, {"v": (2, 2)})
    weights = make_gguf(tmp_path / "m.gguf", "llama", {}, {"w": (2, 2)})
    check_sees(store.load(add_model(store, "sees", weights, extra={media.PROJECTOR: projector})))
    with pytest.raises(InvalidRequest, match="does not support multimodal requests"):
        check_sees(store.load(add_model(store, "blind", weights)))


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
