"""A llama that says what a test wants, through the real engine: every token has one successor.

Attention and feed-forward add nothing, so the next token depends on the last one only: the output matrix holds, for
each token, the embedding of the token before it. A chain begins with a text that ends the prompt; greedy decoding
then walks it. Grammars may force it off the chain; it goes on from wherever it lands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tests.fakes.ggufs import byte_level_vocabulary, finish

END = "<|im_end|>"
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_WIDTH = 256
_HEAD = 32  # of its one head, which adds nothing: long prompts are read quickly
_PADDING = 32
_SHARPNESS = 3.0  # of the output: high, so that samplers other than greedy follow the chain as well


def scripted_llama(
    path: Path,
    chains: Sequence[Sequence[str]],
    *,
    chat_template: str | None = None,
    controls: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    context_length: int = 4096,
) -> Path:
    """Write the model. Each chain's first text is a token that a prompt ends with; END is added to each chain.

    A text stands for one token and may occur once only, unless with the same successor. `controls`: texts that are
    control tokens of the model; other texts in angle or square brackets are user-defined tokens. Returns `path`.
    """
    base, merges = byte_level_vocabulary()
    alphabet = dict(zip(range(256), base[:256], strict=True))
    tokens, types = list(base), [_CONTROL if token.startswith("<|") else _NORMAL for token in base]
    successors: dict[str, str] = {}
    ids: dict[str, int] = {}
    for chain in chains:
        for text, following in zip([*chain, END], [*chain[1:], END, END], strict=True):
            assert successors.setdefault(text, following) == following, f"{text!r} would have two successors"
            if text in ids:
                continue
            marked = text.startswith(("<", "["))
            token = text if marked else "".join(alphabet[byte] for byte in text.encode())
            if token in tokens:
                ids[text] = tokens.index(token)
                continue
            ids[text] = len(tokens)
            types.append(_CONTROL if text in controls else _USER_DEFINED if marked else _NORMAL)
            tokens.append(token)
    while len(tokens) % _PADDING:
        tokens.append(f"<|pad{len(tokens)}|>")
        types.append(_CONTROL)
    pairs = {ids[text]: ids[following] for text, following in successors.items()}
    writer = gguf.GGUFWriter(path, "llama")
    _add_metadata(writer, tokens, types, merges, context_length)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for key, value in (metadata or {}).items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    for name, weights in _weights(len(tokens), pairs).items():
        writer.add_tensor(name, weights)
    finish(writer)
    return path


def _add_metadata(
    writer: gguf.GGUFWriter, tokens: list[str], types: list[int], merges: list[str], context_length: int
) -> None:
    writer.add_name("scripted")
    writer.add_file_type(0)
    writer.add_context_length(context_length)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_key_length(_HEAD)
    writer.add_value_length(_HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index(END))
    writer.add_add_bos_token(False)


def _weights(size: int, pairs: Mapping[int, int]) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    embedding = random.standard_normal((size, _WIDTH)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    output = np.zeros((size, _WIDTH), dtype=np.float32)
    for token, following in pairs.items():
        output[following] += embedding[token]
    ones = np.ones(_WIDTH, dtype=np.float32)
    weights = {
        "token_embd.weight": embedding,
        "output.weight": output * _SHARPNESS,
        "output_norm.weight": ones,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
    }
    for name in ("attn_q", "attn_k", "attn_v"):
        weights[f"blk.0.{name}.weight"] = np.zeros((_HEAD, _WIDTH), dtype=np.float32)
    weights["blk.0.attn_output.weight"] = np.zeros((_WIDTH, _HEAD), dtype=np.float32)
    weights["blk.0.ffn_gate.weight"] = np.zeros((32, _WIDTH), dtype=np.float32)
    weights["blk.0.ffn_up.weight"] = np.zeros((32, _WIDTH), dtype=np.float32)
    weights["blk.0.ffn_down.weight"] = np.zeros((_WIDTH, 32), dtype=np.float32)
    return weights
