"""Embedding vectors: unit length in 32 bits, shortened ones again, how they print, which old ones stay raw."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from corral.errors import InvalidRequest
from corral.inference.embed import normalise, was_raw
from corral.server.native.embed import format_float32_lists


def test_vectors_get_length_one() -> None:
    made = normalise([[3.0, 4.0], [0.0, 0.0]], 0)
    assert made[0] == pytest.approx([0.6, 0.8], abs=1e-7)
    assert made[1] == [0.0, 0.0]


def test_a_shortened_vector_gets_length_one_again() -> None:
    assert normalise([[3.0, 4.0, 12.0]], 2)[0] == pytest.approx([0.6, 0.8], abs=1e-6)
    for ignored in (-1, 0, 3, 4):
        assert len(normalise([[3.0, 4.0, 12.0]], ignored)[0]) == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_no_numbers_are_an_error(bad: float) -> None:
    with pytest.raises(InvalidRequest, match="embedding contains NaN or Inf values"):
        normalise([[1.0, bad]], 0)


def test_values_print_as_the_shortest_text_of_their_32_bits() -> None:
    value = float(np.float32(0.010071029))
    text = bytes(format_float32_lists([[value, 1.0, -0.5], [2.0, 3.0, 4.0]])).decode()
    assert text.startswith("[[0.010071029,")
    assert [np.float32(v) for v in json.loads(text)[0]] == [np.float32(value), np.float32(1), np.float32(-0.5)]


@pytest.mark.parametrize(
    ("architecture", "tokenizer", "normalizes", "raw"),
    [
        ("nomic-bert", "bert", None, True),
        ("nomic-bert", "bert", True, False),
        ("nomic-bert-moe", "t5", None, True),
        ("bert", "bert", None, False),
        ("bert", "bert", False, True),
        ("bert", "t5", None, True),
        ("llama", "gpt2", None, False),
    ],
)
def test_architectures_that_were_raw_stay_raw_on_the_old_route(
    architecture: str, tokenizer: str, normalizes: bool | None, raw: bool
) -> None:
    values: dict[str, Any] = {"normalize_embeddings": normalizes}
    header = SimpleNamespace(architecture=architecture, get=values.get, text=lambda key: tokenizer)
    assert was_raw(SimpleNamespace(header=header)) is raw  # type: ignore[arg-type]
