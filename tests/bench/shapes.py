"""A model of Llama-3.2-1B's shape in Q4_K_M, made in seconds: the kernels' work is a real one's, the words are none.

The models of the other tests are untypical: 576 and 640 columns are no multiple of a K-quant's 256, so their "Q4_K_M"
holds few of these. Blocks are random bytes with scales set so that nothing overflows.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from tests.fakes.ggufs import byte_level_vocabulary, finish

LAYERS, WIDTH, HIDDEN, KEYS, VOCABULARY = 16, 2048, 8192, 512, 128_256
_NORMAL = 1
_BLOCK = 256  # weights
_BYTES = {"Q4_K": 144, "Q6_K": 210}
_SCALES = {"Q4_K": (0, 2), "Q6_K": (208,)}  # where a block has its half-precision scales
_SCALE = np.array([2e-5], dtype=np.float16).view(np.uint8)


def llama_1b(path: Path) -> Path:
    """Write the model, about 800 MB; returns `path`."""
    random = np.random.default_rng(1)
    tokens, merges = byte_level_vocabulary()
    tokens += [f"~{number}" for number in range(VOCABULARY - len(tokens))]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(8192)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(32)
    writer.add_head_count_kv(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(64)
    writer.add_rope_freq_base(500_000.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_NORMAL] * VOCABULARY)
    writer.add_token_merges(merges)
    writer.add_add_bos_token(False)

    def add(name: str, rows: int, columns: int, kind: str) -> None:
        blocks = random.integers(0, 256, (rows * columns // _BLOCK, _BYTES[kind]), dtype=np.uint8)
        for place in _SCALES[kind]:
            blocks[:, place : place + 2] = _SCALE
        data = blocks.reshape(rows, columns // _BLOCK * _BYTES[kind])
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind])

    ones = np.ones(WIDTH, dtype=np.float32)
    add("token_embd.weight", VOCABULARY, WIDTH, "Q6_K")
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(LAYERS):
        more = "Q6_K" if _has_more_bits(layer) else "Q4_K"
        prefix = f"blk.{layer}."
        writer.add_tensor(f"{prefix}attn_norm.weight", ones)
        writer.add_tensor(f"{prefix}ffn_norm.weight", ones)
        add(f"{prefix}attn_q.weight", WIDTH, WIDTH, "Q4_K")
        add(f"{prefix}attn_k.weight", KEYS, WIDTH, "Q4_K")
        add(f"{prefix}attn_v.weight", KEYS, WIDTH, more)
        add(f"{prefix}attn_output.weight", WIDTH, WIDTH, "Q4_K")
        add(f"{prefix}ffn_gate.weight", HIDDEN, WIDTH, "Q4_K")
        add(f"{prefix}ffn_up.weight", HIDDEN, WIDTH, "Q4_K")
        add(f"{prefix}ffn_down.weight", WIDTH, HIDDEN, more)
    finish(writer)
    return path


def _has_more_bits(layer: int) -> bool:
    """Q4_K_M's mixture: the first and last eighth, and every third layer between (llama.cpp use_more_bits)."""
    eighth = LAYERS // 8
    return layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2
