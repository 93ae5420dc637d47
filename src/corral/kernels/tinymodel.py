"""A tiny model with random weights, in the tensor types that kernels differ in: what packs are proved with.

Made in a second, always the same; a llama of 2 layers whose tokens are the 256 bytes. Nothing it says means anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import libgguf
import numpy as np
import numpy.typing as npt

_WIDTH, _HIDDEN, _HEADS, _LAYERS, _TOKENS = 256, 512, 4, 2, 259
_SHARED = _WIDTH // _HEADS  # columns of the keys: all heads have the same
_TYPES = ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_1", "Q5_0", "IQ4_XS", "F16")
_SEED = 7


def write_tiny_model(path: Path) -> None:
    """Write the GGUF."""
    random = np.random.default_rng(_SEED)
    writer = gguf.GGUFWriter(path, "llama")
    _write_metadata(writer)
    kinds = iter(_TYPES * 3)

    def matrix(name: str, rows: int, columns: int, kind: str) -> None:
        values = (random.standard_normal((rows, columns)) * columns**-0.5).astype(np.float32)
        if kind == "F16":
            writer.add_tensor(name, values.astype(np.float16))
            return
        quantized: npt.NDArray[Any] = libgguf.quantize_rows(values, gguf.GGMLQuantizationType[kind])
        writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType[kind])

    matrix("token_embd.weight", _TOKENS, _WIDTH, "Q8_0")
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for layer in range(_LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(_WIDTH, np.float32))
        for part, rows in (("attn_q", _WIDTH), ("attn_k", _SHARED), ("attn_v", _SHARED), ("attn_output", _WIDTH)):
            matrix(f"blk.{layer}.{part}.weight", rows, _WIDTH, next(kinds))
        for part in ("ffn_gate", "ffn_up"):
            matrix(f"blk.{layer}.{part}.weight", _HIDDEN, _WIDTH, next(kinds))
        matrix(f"blk.{layer}.ffn_down.weight", _WIDTH, _HIDDEN, next(kinds))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_metadata(writer: gguf.GGUFWriter) -> None:
    writer.add_block_count(_LAYERS)
    writer.add_context_length(1024)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))])
    writer.add_token_scores([0.0] * _TOKENS)
    writer.add_token_types([2, 3, 3, *([6] * 256)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
