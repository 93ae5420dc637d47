"""Which way a model's chats take, and what is said when its config names a renderer or parser that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.stores import add_model

from corral.inference.preparing.way import is_rendered, parser_of, renderer_of, way_notices
from corral.prompt.renderers.registry import RENDERERS
from corral.store import ModelConfig, ModelStore
from corral.store.models import Model

HARMONY = "<|start|>{{ .Prompt }}<|end|>"
GO, JINJA = "{{ .Prompt }}", "{{ messages }}"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def model(
    store: ModelStore,
    *,
    name: str = "m",
    renderer: str = "",
    parser: str = "",
    go: str = "",
    jinja: str = "",
    family: str = "llama",
    size: str = "4.3B",
) -> Model:
    metadata = {"tokenizer.chat_template": jinja} if jinja else {}
    gguf = make_gguf(store.root.parent / "m.gguf", "llama", metadata, {"w": (2, 2)})
    config = ModelConfig("gguf", family, (family,), size, "F32", renderer=renderer, parser=parser)
    added = add_model(store, name, gguf, texts={"template": go} if go else None, config=config)
    return store.load(added)


def codes(found: Model) -> list[str]:
    return [notice.code for notice in way_notices(found)]


@pytest.mark.parametrize("go", ["", GO])
@pytest.mark.parametrize("jinja", ["", JINJA])
@pytest.mark.parametrize("name", ["qwen3.5", "gemma4-large", "glimmer"])
def test_a_known_renderer_renders_whatever_templates_there_are(
    store: ModelStore, name: str, go: str, jinja: str
) -> None:
    found = model(store, renderer=name, parser="qwen3.5", go=go, jinja=jinja)
    assert renderer_of(found) is RENDERERS[name]
    assert is_rendered(found)
    assert codes(found) == []


@pytest.mark.parametrize(
    ("go", "jinja", "rendered", "instead"),
    [
        ("", JINJA, False, "the template in its GGUF is used"),
        (GO, JINJA, False, "the template in its GGUF is used"),
        (GO, "", True, "its Go template is used"),
        ("", "", False, "turns are marked as in ChatML"),
    ],
)
def test_an_unknown_renderer_is_told_with_what_is_used_instead(
    store: ModelStore, go: str, jinja: str, rendered: bool, instead: str
) -> None:
    found = model(store, renderer="qwen9", parser="qwen3.5", go=go, jinja=jinja)
    assert is_rendered(found) is rendered
    (notice,) = way_notices(found)
    assert (notice.code, notice.facts) == ("renderer_replaced", {"renderer": "qwen9"})
    assert instead in notice.message


def test_an_unknown_parser_is_told(store: ModelStore) -> None:
    found = model(store, renderer="qwen3.5", parser="qwen9", jinja=JINJA)
    assert is_rendered(found)
    assert parser_of(found) == ""
    assert codes(found) == ["parser_replaced"]
    assert codes(model(store, parser="qwen9", go=GO)) == ["parser_replaced"]


def test_a_known_parser_reads_what_the_go_template_rendered(store: ModelStore) -> None:
    found = model(store, parser="ministral", go=GO, jinja=JINJA)
    assert is_rendered(found)
    assert parser_of(found) == "ministral"
    assert codes(found) == []
    assert not is_rendered(model(store, parser="ministral", jinja=JINJA))


def test_harmony_is_rendered_by_its_go_template(store: ModelStore) -> None:
    assert is_rendered(model(store, family="gptoss", go=HARMONY, jinja=JINJA))


@pytest.mark.parametrize(
    ("name", "size", "renderer"),
    [("gemma4:26b", "4.3B", "gemma4-large"), ("gemma4:e4b", "31B", "gemma4-small"), ("mine", "31B", "gemma4-large")],
)
def test_gemma4_alone_means_the_size_of_the_model(store: ModelStore, name: str, size: str, renderer: str) -> None:
    assert renderer_of(model(store, name=name, renderer="gemma4", size=size)) is RENDERERS[renderer]


def test_a_hostile_name_is_shown_in_part(store: ModelStore) -> None:
    (notice,) = way_notices(model(store, renderer="x" * 100_000, jinja=JINJA))
    assert len(notice.message) < 300
