"""A cross-encoder small enough for tests: a BERT with a ranking head and random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tests.fakes.ggufs import finish

_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NORMAL, _CONTROL = 1, 3
_WIDTH, _LAYERS = 64, 2
_VOCABULARY = 320


def tiny_ranker(path: Path, *, seed: int = 3, context_length: int = 256) -> Path:
    """Write the model: every text of letters can be tokenized, scores depend on both texts. Returns `path`."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?"
    tokens = [*_SPECIALS, *(f"\u2581{letter}" for letter in letters), *letters]
    tokens += [f"\u2581word{n}" for n in range(len(tokens), _VOCABULARY)]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("ranker")
    writer.add_file_type(0)
    writer.add_context_length(context_length)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(2 * _WIDTH)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_vocab_size(len(tokens))
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in _SPECIALS else _NORMAL for token in tokens])
    writer.add_bos_token_id(tokens.index("[CLS]"))
    writer.add_eos_token_id(tokens.index("[SEP]"))
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_mask_token_id(tokens.index("[MASK]"))
    for name, weights in _weights(seed, context_length).items():
        writer.add_tensor(name, weights)
    finish(writer)
    return path


def _weights(seed: int, context_length: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    weights: dict[str, np.ndarray[Any, Any]] = {}

    def dense(name: str, outputs: int, inputs: int) -> None:
        weights[f"{name}.weight"] = random.normal(0.0, 0.3, (outputs, inputs)).astype(np.float32)
        weights[f"{name}.bias"] = random.normal(0.0, 0.1, outputs).astype(np.float32)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = np.ones(_WIDTH, dtype=np.float32)
        weights[f"{name}.bias"] = np.zeros(_WIDTH, dtype=np.float32)

    for name, rows in (("token_embd", _VOCABULARY), ("position_embd", context_length), ("token_types", 2)):
        weights[f"{name}.weight"] = random.normal(0.0, 0.5, (rows, _WIDTH)).astype(np.float32)
    norm("token_embd_norm")
    for layer in range(_LAYERS):
        prefix = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            dense(f"{prefix}.{name}", _WIDTH, _WIDTH)
        norm(f"{prefix}.attn_output_norm")
        dense(f"{prefix}.ffn_up", 2 * _WIDTH, _WIDTH)
        dense(f"{prefix}.ffn_down", _WIDTH, 2 * _WIDTH)
        norm(f"{prefix}.layer_output_norm")
    dense("cls", _WIDTH, _WIDTH)
    dense("cls.output", 1, _WIDTH)
    return weights
