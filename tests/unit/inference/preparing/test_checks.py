"""What is refused before anything is loaded, where a model in a store is too much to make for it over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.core import Common, Think
from corral.errors import InvalidRequest, UnsupportedCapability
from corral.inference.preparing.checks import check_media, decide_think
from corral.store import ModelStore
from corral.store import manifests as media
from corral.store.model import Model

IMAGE, SOUND = b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WAVE"
GPT_OSS = "<|start|>{{ range .Messages }}{{ .Content }}{{ end }}<|end|>"


def with_senses(folder: Path, **senses: bool) -> Model:
    """A model whose projector has these encoders; without one where none is named."""
    folder.mkdir()
    store = ModelStore(folder / "store")
    keys = {f"clip.has_{sense}_encoder": has for sense, has in senses.items()}
    extra = {media.PROJECTOR: make_gguf(folder / "p.gguf", "clip", keys, {"v": (2, 2)})} if senses else {}
    weights = make_gguf(folder / "m.gguf", "llama", {}, {"w": (2, 2)})
    return store.load(add_model(store, "m", weights, extra=extra))


def test_each_sense_takes_what_it_is_for(tmp_path: Path) -> None:
    check_media(with_senses(tmp_path / "both", audio=True, vision=True), [SOUND, IMAGE])
    ears, eyes = with_senses(tmp_path / "ears", audio=True), with_senses(tmp_path / "eyes", vision=True)
    assert (ears.capabilities, eyes.capabilities) == (("completion", "audio"), ("completion", "vision"))
    check_media(ears, [SOUND, SOUND])
    check_media(eyes, [IMAGE] * 9)
    with pytest.raises(UnsupportedCapability, match="does not support vision: it sees no images"):
        check_media(ears, [SOUND, IMAGE])
    with pytest.raises(UnsupportedCapability, match="does not support audio: it hears no sounds"):
        check_media(eyes, [IMAGE, SOUND])


def test_a_model_without_senses_names_the_one_that_is_missing(tmp_path: Path) -> None:
    model = with_senses(tmp_path / "none")
    check_media(model, [])
    with pytest.raises(InvalidRequest, match=r"^Multimodal data provided, but model does not support multimodal"):
        check_media(model, [IMAGE])
    with pytest.raises(InvalidRequest, match="it hears no sounds"):
        check_media(model, [SOUND])


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


@pytest.mark.parametrize(("unsupported", "codes"), [("told", ["think_ignored"]), ("quiet", [])])
def test_thinking_that_a_model_cannot_is_left_out_and_told_where_it_was_wanted(
    tmp_path: Path, unsupported: Any, codes: list[str]
) -> None:
    model = with_senses(tmp_path / "none")
    think, notices = decide_think(model, Common("m"), "high", unsupported=unsupported)
    assert think is None
    assert [notice.code for notice in notices] == codes
    with pytest.raises(UnsupportedCapability, match="does not support thinking"):
        decide_think(model, Common("m"), "high")
