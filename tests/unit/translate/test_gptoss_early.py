"""gpt-oss as Ollama's library had it in its first days: experts in the checkpoint's order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral.errors import UntranslatableModel
from corral.gguf import read_header
from corral.gguf.encoding import encode_preamble, encode_scalar, encode_tensors, encode_text
from corral.gguf.types import ValueType
from corral.translate import recognize, write

EXPERTS, FEED_FORWARD, WIDTH = 2, 3, 64
Array = np.ndarray[Any, np.dtype[Any]]


def early_blocks(values: Array) -> bytes:
    """MXFP4 with a row's nibbles in order, two a byte, as the checkpoint has them."""
    blocks = gguf.quants.quantize(values, gguf.GGMLQuantizationType.MXFP4).reshape(-1, 17)
    nibbles = np.concatenate([blocks[:, 1:] & 15, blocks[:, 1:] >> 4], axis=1)  # ggml: the second half above the first
    return np.concatenate([blocks[:, :1], nibbles[:, 0::2] | nibbles[:, 1::2] << 4], axis=1).tobytes()


def bfloat16(values: Array) -> bytes:
    return (np.asarray(values, "<f4").view("<u4") >> 16).astype("<u2").tobytes()


def write_file(path: Path, tensors: dict[str, tuple[tuple[int, ...], str, bytes]]) -> None:
    head = encode_preamble(len(tensors), 1) + encode_text("general.architecture")
    head += encode_scalar(ValueType.STRING, "gptoss")
    head += encode_tensors([(name, shape, kind) for name, (shape, kind, _) in tensors.items()], 32)
    with path.open("wb") as file:
        for data in (head, *(data for _, _, data in tensors.values())):
            file.write(data + bytes(-len(data) % 32))


def test_gate_and_up_are_taken_apart_and_their_blocks_repacked(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    merged = random.normal(size=(EXPERTS, 2 * FEED_FORWARD, WIDTH)).astype(np.float32)
    bias = np.arange(EXPERTS * 2 * FEED_FORWARD, dtype=np.float32).reshape(EXPERTS, -1)
    name = "blk.0.ffn_gate_up_exps"
    write_file(
        tmp_path / "m.gguf",
        {
            f"{name}.weight": ((WIDTH, 2 * FEED_FORWARD, EXPERTS), "MXFP4_EARLY", early_blocks(merged)),
            f"{name}.bias": ((2 * FEED_FORWARD, EXPERTS), "BF16", bfloat16(bias)),
            "blk.0.ffn_down_exps.bias": ((4,), "BF16", bfloat16(np.ones(4))),
            "blk.0.attn_sinks": ((4,), "BF16", bfloat16(np.ones(4))),
        },
    )
    layout = recognize(read_header(tmp_path / "m.gguf"))
    assert layout is not None
    plan = layout.text_plan()
    assert plan is not None
    with (tmp_path / "new.gguf").open("wb") as file:
        write(tmp_path / "m.gguf", plan, file)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "new.gguf").tensors}
    quantized = gguf.quants.quantize(merged, gguf.GGMLQuantizationType.MXFP4)
    for index, kind in enumerate(("gate", "up")):
        assert tensors[f"blk.0.ffn_{kind}_exps.weight"].tensor_type is gguf.GGMLQuantizationType.MXFP4
        assert np.array_equal(tensors[f"blk.0.ffn_{kind}_exps.weight"].data, quantized[:, index::2])
        assert np.array_equal(tensors[f"blk.0.ffn_{kind}_exps.bias"].data, bias[:, index::2])
    assert np.array_equal(tensors["blk.0.ffn_down_exps.bias"].data, np.ones(4, np.float32))
    assert np.array_equal(tensors["blk.0.attn_sinks.weight"].data, np.ones(4, np.float32))
    header = read_header(tmp_path / "new.gguf")
    assert header.metadata["gpt-oss.expert_feed_forward_length"] == FEED_FORWARD


@pytest.mark.parametrize("shape", [(64,), (64, 3, 2), (3, 2)])
def test_gate_and_up_that_are_not_in_turn_are_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    size = 4 * int(np.prod(shape))
    write_file(tmp_path / "m.gguf", {"blk.0.ffn_gate_up_exps.weight": (shape, "F32", bytes(size))})
    layout = recognize(read_header(tmp_path / "m.gguf"))
    assert layout is not None
    with pytest.raises(UntranslatableModel, match="ffn_gate_up_exps"):
        layout.text_plan()
