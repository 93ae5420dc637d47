"""The format's tables against the format's own library, and parameter counts as Ollama prints them."""

from __future__ import annotations

import gguf
import pytest

from corral.gguf import format_parameter_size
from corral.gguf.types import FILE_TYPES, TENSOR_TYPES, file_type_name


def test_tensor_types_agree_with_the_gguf_library() -> None:
    theirs = {
        int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind])
        for kind in gguf.GGMLQuantizationType
        if kind in gguf.GGML_QUANT_SIZES
    }
    early = {4: ("MXFP4_EARLY", 32, 17)}  # Ollama's alone
    assert theirs | early == TENSOR_TYPES


def test_file_types_agree_with_the_gguf_library() -> None:
    theirs = {
        int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind is not gguf.LlamaFileType.GUESSED
    }
    assert theirs == FILE_TYPES


@pytest.mark.parametrize("value", [4, 5, 6, 33, 34, 35, 41, 1024, -1])
def test_withdrawn_and_unknown_file_types_are_unknown(value: int) -> None:
    assert file_type_name(value) == "unknown"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (8_030_261_248, "8.0B"),
        (1_000_000_000, "1B"),
        (2_850_000_000, "2.9B"),
        (500_500_000, "500.50M"),
        (134_515_008, "134.52M"),
        (7_000_000, "7M"),
        (1_001, "1K"),
        (999, "999"),
        (0, "0"),
    ],
)
def test_parameter_counts_print_as_ollama_prints_them(count: int, text: str) -> None:
    assert format_parameter_size(count) == text
