"""The size of Gemma 4 that a model is."""

from __future__ import annotations

import pytest

from corral.prompt.renderers.sizes import sized_name


@pytest.mark.parametrize(
    ("names", "parameter_size", "renderer"),
    [
        (("gemma4:e2b", "registry.ollama.ai/library/gemma4:e2b"), "31B", "gemma4-small"),
        (("gemma4:E4B-it-q8_0",), "", "gemma4-small"),
        (("gemma4:26b",), "4.3B", "gemma4-large"),
        (("mine:latest", "registry.ollama.ai/gemma-31b/mine:latest"), "", "gemma4-large"),
        (("mine",), "11.9B", "gemma4-small"),
        (("mine",), "12B", "gemma4-large"),
        (("mine",), "12000m", "gemma4-large"),
        (("mine",), "25.23b", "gemma4-large"),
        (("mine",), "8 billion", "gemma4-small"),
        (("mine",), "", "gemma4-small"),
        ((), "1e99B", "gemma4-small"),
    ],
)
def test_names_decide_before_the_count_of_parameters(
    names: tuple[str, ...], parameter_size: str, renderer: str
) -> None:
    assert sized_name("gemma4", names, parameter_size) == renderer


def test_other_renderers_have_no_sizes() -> None:
    assert sized_name("gemma4-small", ("gemma4:31b",), "31B") == "gemma4-small"
    assert sized_name("qwen3.5", ("x:12b",), "12B") == "qwen3.5"
