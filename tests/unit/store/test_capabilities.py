"""Capabilities in Ollama's order, and the choice between Go template and Jinja (spec models §4.8, §5.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.library import GOLDEN, KitModel

from corral.core import Capability
from corral.gguf import GGUFHeader, read_header
from corral.store.capabilities import (
    Traits,
    is_rendered_here,
    jinja_capabilities,
    parser_capabilities,
    runtime_capabilities,
    selected_template,
    tags_capabilities,
    uses_harmony,
)
from corral.store.gotemplates import read_traits
from corral.store.modelconfig import ModelConfig
from corral.translate import Layout, recognize

COMPLETION, TOOLS, INSERT, VISION = Capability.COMPLETION, Capability.TOOLS, Capability.INSERT, Capability.VISION
EMBEDDING, THINKING, AUDIO = Capability.EMBEDDING, Capability.THINKING, Capability.AUDIO

GO_PLAIN = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"
GO_TOOLS = "{{ range .Tools }}{{ . }}{{ end }}{{ range .Messages }}{{ .Content }}{{ end }}"
GO_ROUND_TRIP = (
    "{{ range .Tools }}{{ . }}{{ end }}{{ range .Messages }}{{ range .ToolCalls }}{{ .Function }}{{ end }}"
    '{{ if eq .Role "tool" }}{{ .Content }}{{ end }}{{ end }}'
)
GO_THINKING = "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}{{ end }}"
GO_INSERT = "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}"
GO_HARMONY = "<|start|>{{ range .Messages }}{{ .Content }}{{ end }}<|end|>"

JINJA_PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
JINJA_TOOLS = "{% if tools %}{{ tools }}{% endif %}"
JINJA_ROUND_TRIP = "{% if tools %}{% endif %}{{ message.tool_calls }}{% if message.role == 'tool' %}{% endif %}"
JINJA_THINKING = "{{ '<think>' }}{{ '</think>' }}"


def layout_of(name: str) -> Layout:
    """Of a kit model in one of Ollama's own layouts."""
    layout = recognize(read_header(KitModel(GOLDEN, name).weights))
    assert layout is not None
    return layout


SEEING = layout_of("gemma4")  # it hears too


class Maker:
    """Makes traits from short arguments."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    def header(self, arch: str = "llama", jinja: str = "", **keys: Any) -> GGUFHeader:
        self._count += 1
        metadata: dict[str, Any] = {key.replace("__", "."): value for key, value in keys.items()}
        if jinja:
            metadata["tokenizer.chat_template"] = jinja
        return read_header(make_gguf(self._directory / f"{self._count}.gguf", arch, metadata))

    def traits(
        self,
        jinja: str = "",
        go: str | None = None,
        *,
        setting: bool | None = None,
        header: GGUFHeader | None = None,
        projectors: Sequence[GGUFHeader | None] = (),
        layout: Layout | None = None,
        **config: Any,
    ) -> Traits:
        return Traits(
            ModelConfig(**config),
            header or self.header(jinja=jinja),
            projectors,
            None if go is None else read_traits(go),
            setting,
            layout,
        )


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.mark.parametrize(
    ("go", "expected"),
    [
        (GO_PLAIN, ()),
        (GO_TOOLS, (TOOLS,)),
        (GO_THINKING, (THINKING,)),
        (GO_INSERT, (INSERT,)),
        (GO_INSERT + GO_TOOLS + GO_THINKING, (TOOLS, INSERT, THINKING)),
        ("{{ $.Tools }}{{ range .Messages }}{{ end }}", (TOOLS,)),
        ("{{ range $.Messages }}a{{ .Thinking }}b{{ end }}", ()),
        ("{{ range .Messages }}{{ .Thinking }}b{{ end }}", ()),
        ("{{ range .Messages }} \n {{ .Thinking }}b{{ end }}", ()),
        ("a{{ .Thinking }}b{{ range .Messages }}{{ end }}", ()),
        ("{{ if }}", ()),
    ],
)
def test_a_go_templates_capabilities_follow_from_its_tree(go: str, expected: tuple[Capability, ...]) -> None:
    assert read_traits(go).capabilities == expected


@pytest.mark.parametrize(
    ("go", "expected"),
    [
        (GO_ROUND_TRIP, True),
        (GO_TOOLS, False),
        (GO_ROUND_TRIP.replace('eq .Role "tool"', "tool_x"), False),
        (GO_ROUND_TRIP.replace('{{ if eq .Role "tool" }}', "{{ if .X }}<tool_response>"), True),
        (GO_ROUND_TRIP.replace('{{ if eq .Role "tool" }}', "{{ if .X }}[TOOL_RESULTS]"), True),
    ],
)
def test_a_go_template_carries_tool_results_back_or_not(go: str, expected: bool) -> None:
    assert read_traits(go).has_tool_round_trip is expected


@pytest.mark.parametrize(
    ("jinja", "expected"),
    [
        (JINJA_PLAIN, ()),
        ("", ()),
        (JINJA_TOOLS, (TOOLS,)),
        ("<tool_call>", (TOOLS,)),
        (JINJA_THINKING, (THINKING,)),
        ("<think> only opened", ()),
        ("content.split('</think>')", (THINKING,)),
        ('content.split("</think>")', (THINKING,)),
        ("content.split('</think>') reasoning_content", ()),
        ("content.split('</think>') <SPECIAL_12>", ()),
        (JINJA_TOOLS + JINJA_THINKING, (TOOLS, THINKING)),
    ],
)
def test_a_jinja_templates_capabilities_follow_from_its_text(jinja: str, expected: tuple[Capability, ...]) -> None:
    assert jinja_capabilities(jinja) == expected


@pytest.mark.parametrize(
    ("parser", "expected"),
    [
        ("harmony", (TOOLS, THINKING)),
        ("qwen3-coder", (TOOLS,)),
        ("olmo3-think", (THINKING,)),
        ("passthrough", ()),
        ("no-such-parser", ()),
        ("", ()),
    ],
)
def test_built_in_parsers_have_fixed_capabilities(parser: str, expected: tuple[Capability, ...]) -> None:
    assert parser_capabilities(parser) == expected


def test_an_embedding_model_completes_nothing(make: Maker) -> None:
    traits = make.traits(header=make.header("bert", bert__pooling_type=1))
    assert runtime_capabilities(traits) == (EMBEDDING,)
    assert tags_capabilities(traits) == (EMBEDDING,)


def test_pooling_type_none_still_makes_an_embedding_model(make: Maker) -> None:
    assert runtime_capabilities(make.traits(header=make.header("bert", bert__pooling_type=0))) == (EMBEDDING,)


def test_the_two_lists_have_their_own_orders(make: Maker) -> None:
    traits = make.traits(header=SEEING.header, go=GO_TOOLS, capabilities=("thinking",), layout=SEEING)
    assert runtime_capabilities(traits) == (THINKING, COMPLETION, VISION, AUDIO, TOOLS)
    assert tags_capabilities(traits) == (VISION, AUDIO, COMPLETION, THINKING, TOOLS)


def test_encoders_inside_the_weights_count_only_where_the_engine_can_use_them(make: Maker) -> None:
    traits = make.traits(header=make.header("llama", llama__vision__block_count=2))
    assert runtime_capabilities(traits) == tags_capabilities(traits) == (COMPLETION,)


def test_a_model_that_the_engine_cannot_load_can_do_nothing(make: Maker) -> None:
    assert runtime_capabilities(replace(make.traits(JINJA_TOOLS), runs=False)) == ()


def test_jinja_counts_in_show_and_never_in_tags(make: Maker) -> None:
    traits = make.traits(JINJA_TOOLS + JINJA_THINKING)
    assert runtime_capabilities(traits) == (TOOLS, THINKING, COMPLETION)
    assert tags_capabilities(traits) == (COMPLETION,)


def test_only_the_selected_template_counts_in_show(make: Maker) -> None:
    go_wins = make.traits(JINJA_THINKING, GO_TOOLS + GO_INSERT)
    assert selected_template(go_wins) == "go"
    assert runtime_capabilities(go_wins) == (COMPLETION, TOOLS, INSERT)
    jinja_wins = make.traits(JINJA_TOOLS + JINJA_THINKING, GO_INSERT)
    assert selected_template(jinja_wins) == "jinja"
    assert runtime_capabilities(jinja_wins) == (TOOLS, THINKING, COMPLETION)
    assert tags_capabilities(jinja_wins) == (COMPLETION, INSERT)


def test_a_projector_brings_vision_and_its_audio(make: Maker) -> None:
    vision = make.header("clip", clip__has_vision_encoder=True)
    audio = make.header("clip", clip__has_audio_encoder=True)
    hidden = make.header("clip", clip__has_audio_encoder=True, **{"clip.vision.projector_type": "gemma3nv"})
    assert runtime_capabilities(make.traits(projectors=[vision])) == (COMPLETION, VISION)
    assert runtime_capabilities(make.traits(projectors=[audio])) == (COMPLETION, AUDIO)
    assert runtime_capabilities(make.traits(projectors=[hidden])) == (COMPLETION, VISION)
    assert runtime_capabilities(make.traits(projectors=[None])) == (COMPLETION, VISION)
    assert tags_capabilities(make.traits(projectors=[vision])) == (COMPLETION, VISION)
    assert tags_capabilities(make.traits(projectors=[audio])) == (COMPLETION,)


def test_gpt_oss_thinks(make: Maker) -> None:
    for family in ("gptoss", "gpt-oss"):
        traits = make.traits(model_family=family)
        assert runtime_capabilities(traits) == (COMPLETION, THINKING)
        assert tags_capabilities(traits) == (COMPLETION, THINKING)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_format": "safetensors", "renderer": "gemma4"}, (COMPLETION,)),
        ({"model_format": "safetensors", "renderer": "nemotron-3-nano"}, (COMPLETION,)),
        ({"model_format": "safetensors", "renderer": "glimmer"}, (COMPLETION, VISION)),
        ({"model_format": "gguf", "renderer": "gemma4"}, (COMPLETION, VISION, AUDIO)),
    ],
)
def test_what_safetensors_models_cannot_be_served_with_is_taken_away(
    config: dict[str, str], expected: tuple[Capability, ...]
) -> None:
    traits = Traits(ModelConfig(capabilities=("completion", "vision", "audio"), **config))  # type: ignore[arg-type]
    assert runtime_capabilities(traits) == expected
    assert tags_capabilities(traits) == expected


def test_audio_of_nemotron_omni_is_hidden_at_run_time(make: Maker) -> None:
    header = make.header("nemotron_h_omni", nemotron_h_omni__audio__block_count=2)
    assert runtime_capabilities(make.traits(header=header)) == (COMPLETION,)


def test_a_remote_stub_has_what_its_config_says() -> None:
    traits = Traits(ModelConfig(remote_host="h", capabilities=("completion", "tools", "brand-new")))
    assert tags_capabilities(traits) == (COMPLETION, TOOLS)


@pytest.mark.parametrize(
    ("jinja", "go", "expected"),
    [
        ("", None, "none"),
        (JINJA_PLAIN, None, "jinja"),
        ("", GO_PLAIN, "go"),
        (JINJA_PLAIN, GO_PLAIN, "go"),
        (JINJA_TOOLS, GO_PLAIN, "jinja"),  # more capabilities
        (JINJA_PLAIN, GO_TOOLS, "go"),
        (JINJA_TOOLS + JINJA_THINKING, GO_ROUND_TRIP, "go"),  # more, but the tool round trip would be lost
        (JINJA_ROUND_TRIP + JINJA_THINKING, GO_ROUND_TRIP, "jinja"),
        (JINJA_TOOLS, GO_TOOLS, "go"),
        (JINJA_ROUND_TRIP, GO_TOOLS, "jinja"),  # the same, and only Jinja has the round trip
        (JINJA_ROUND_TRIP, GO_ROUND_TRIP, "go"),
        (JINJA_THINKING, GO_INSERT, "go"),  # as many, but others
        (JINJA_THINKING, GO_THINKING, "go"),  # the same without tools
    ],
)
def test_the_richer_template_is_selected(make: Maker, jinja: str, go: str | None, expected: str) -> None:
    assert selected_template(make.traits(jinja, go)) == expected


@pytest.mark.parametrize("quoted", ["role'] == 'tool'", 'role"] == "tool"', 'role\'] == "tool"', "role\"] == 'tool'"])
def test_jinja_round_trips_are_found_in_every_quoting(make: Maker, quoted: str) -> None:
    assert selected_template(make.traits(f"tool_calls tools {quoted}", GO_TOOLS)) == "jinja"


def test_the_setting_decides_where_there_is_a_go_template(make: Maker) -> None:
    assert selected_template(make.traits(JINJA_TOOLS, GO_PLAIN, setting=True)) == "go"
    assert selected_template(make.traits(JINJA_PLAIN, GO_TOOLS, setting=False)) == "jinja"
    assert selected_template(make.traits("", GO_TOOLS, setting=False)) == "none"
    assert selected_template(make.traits(JINJA_PLAIN, None, setting=True)) == "jinja"


def test_renderer_parser_and_harmony_are_rendered_here(make: Maker) -> None:
    assert not is_rendered_here(make.traits(JINJA_PLAIN))
    assert is_rendered_here(make.traits(JINJA_PLAIN, renderer="qwen3.5"))
    assert is_rendered_here(make.traits(JINJA_PLAIN, parser="qwen3"))
    assert is_rendered_here(make.traits(JINJA_PLAIN, GO_PLAIN))
    harmony = make.traits(JINJA_TOOLS, GO_HARMONY, setting=False, model_family="gptoss")
    assert uses_harmony(harmony)
    assert is_rendered_here(harmony)
    assert not uses_harmony(make.traits(JINJA_TOOLS, GO_HARMONY, model_family="llama"))
    assert not uses_harmony(make.traits(JINJA_TOOLS, GO_PLAIN, model_family="gptoss"))
