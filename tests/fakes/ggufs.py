"""Small GGUF files for tests, written with the `gguf` package: any header, or a llama that the engine really runs.

`make_gguf` writes a file whose tensors are zeros (enough for the store, create and show). `tiny_llama` writes a
two-layer llama with random weights and a byte-level BPE vocabulary: it loads in milliseconds, generates nonsense and
is deterministic for a seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_NORMAL, _CONTROL = 1, 3  # token types
_VOCABULARY_PADDING = 32


def make_gguf(
    path: Path,
    arch: str = "llama",
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Sequence[int]] | None = None,
) -> Path:
    """Write a GGUF v3: `metadata` by full key (bool, int -> uint32, float -> float32, str, list), `tensors` by name
    with their shape in numpy order, float32 zeros. Returns `path`.
    """
    writer = gguf.GGUFWriter(path, arch)
    for key, value in (metadata or {}).items():
        add_value(writer, key, value)
    for name, shape in (tensors or {}).items():
        writer.add_tensor(name, np.zeros(tuple(shape), dtype=np.float32))
    finish(writer)
    return path


def tiny_llama(
    path: Path,
    *,
    seed: int = 0,
    context_length: int = 512,
    layers: int = 2,
    width: int = 64,
    chat_template: str | None = CHATML,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a llama that runs: `width` embedding size (4 heads of width/4), about 350 kB at the defaults.

    `chat_template` None leaves the key out; `metadata` adds keys, as for `make_gguf`. Returns `path`.
    """
    tokens, merges = byte_level_vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_file_type(0)
    writer.add_context_length(context_length)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in SPECIAL_TOKENS else _NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for key, value in (metadata or {}).items():
        add_value(writer, key, value)
    for name, weights in _llama_weights(seed, len(tokens), layers, width).items():
        writer.add_tensor(name, weights)
    finish(writer)
    return path


def byte_level_vocabulary() -> tuple[list[str], list[str]]:
    """GPT-2's 256 byte symbols, a few merged words, the special tokens: every text can be tokenized.

    Returns tokens and merges (`"left right"`).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    tokens = [symbols[byte] for byte in range(256)]
    merges = ["h e", "t he", "i n", "Ġ the", "l l", "he ll", "hell o", "Ġ hello"]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += SPECIAL_TOKENS
    tokens += [f"<|unused{n}|>" for n in range(-len(tokens) % _VOCABULARY_PADDING)]
    return tokens, merges


def _llama_weights(seed: int, vocabulary: int, layers: int, width: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> np.ndarray[Any, Any]:
        return random.normal(0.0, 0.2, (rows, columns)).astype(np.float32)

    ones = np.ones(width, dtype=np.float32)
    weights = {"token_embd.weight": matrix(vocabulary, width), "output_norm.weight": ones}
    for layer in range(layers):
        prefix = f"blk.{layer}."
        weights[f"{prefix}attn_norm.weight"] = ones
        weights[f"{prefix}ffn_norm.weight"] = ones
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights[f"{prefix}{name}.weight"] = matrix(width, width)
        weights[f"{prefix}ffn_gate.weight"] = matrix(2 * width, width)
        weights[f"{prefix}ffn_up.weight"] = matrix(2 * width, width)
        weights[f"{prefix}ffn_down.weight"] = matrix(width, 2 * width)
    weights["output.weight"] = matrix(vocabulary, width)
    return weights


def add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """A key with its value, in the type that the value shows; bytes are an array of them."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, bytes):
        writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, sub_type=gguf.GGUFValueType.UINT8)
    else:
        writer.add_array(key, value)


def finish(writer: gguf.GGUFWriter) -> None:
    """Write all parts and close."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
