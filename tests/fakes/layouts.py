"""Tiny models of architectures that the library kit lacks, in llama.cpp's layout and in Ollama's: equal weights.

The native form is what the engine's own source asks for; Ollama's is made from it by undoing what its converter did
differently. Sources: llama.cpp src/models/*.cpp (b11549); ollama llama/compat and convert/, 2026-08.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tests.fakes.ggufs import SPECIAL_TOKENS, add_value, byte_level_vocabulary, finish

Arrays = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]
Keys = dict[str, Any]

_WIDTH, _HEADS, _HEAD = 64, 2, 32
_NORMAL, _CONTROL, _UNKNOWN = 1, 3, 2
_TRIE_NODES = 512


@dataclass(frozen=True)
class Pair:
    """A model in both layouts: `ollama` is its architecture there with what it has otherwise."""

    arch: str
    keys: Keys
    weights: Arrays
    ollama_arch: str
    rename: Callable[[str], str]
    change: Callable[[Keys], Keys]
    extra: Arrays  # tensors that only Ollama's file has
    is_embedding: bool = False

    def write_native(self, path: Path) -> Path:
        """In llama.cpp's layout."""
        return _write(path, self.arch, self.keys, self.weights)

    def write_ollama(self, path: Path) -> Path:
        """As a library file."""
        weights = {self.rename(name): array for name, array in self.weights.items()} | self.extra
        moved = {key.replace(f"{self.arch}.", f"{self.ollama_arch}.", 1): value for key, value in self.keys.items()}
        return _write(path, self.ollama_arch, self.change(moved), weights)


def pairs() -> dict[str, Pair]:
    """By the family's name."""
    return {"lfm2": _lfm2(), "laguna": _laguna(), "deepseekocr": _deepseekocr()} | {
        "nemotron_h_moe": _nemotron_super(),
        "bert": _bert(),
    }


def _write(path: Path, arch: str, keys: Keys, weights: Mapping[str, Any]) -> Path:
    writer = gguf.GGUFWriter(path, arch)
    for key, value in keys.items():
        add_value(writer, key, value)
    for name, array in weights.items():
        writer.add_tensor(name, array)
    finish(writer)
    return path


class _Weights:
    """Random matrices, ones for norms; shapes in numpy's order."""

    def __init__(self, seed: int) -> None:
        self.arrays: Arrays = {}
        self._random = np.random.default_rng(seed)

    def add(self, prefix: str = "", **shapes: int | tuple[int, ...]) -> None:
        for name, shape in shapes.items():
            extents = shape if isinstance(shape, tuple) else (shape,)
            full = f"{prefix}{name.replace('__', '.')}" + ("" if "__" in name else ".weight")
            is_norm = name.endswith("norm")
            array = np.ones(extents) if is_norm else self._random.normal(0.0, 0.2, extents)
            self.arrays[full] = array.astype(np.float32)


def _bpe(pre: str) -> Keys:
    tokens, merges = byte_level_vocabulary()
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [_CONTROL if token in SPECIAL_TOKENS else _NORMAL for token in tokens],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
    }


def _vocabulary_size() -> int:
    return len(byte_level_vocabulary()[0])


def _common(arch: str, blocks: int, pre: str) -> Keys:
    sizes: Keys = {"block_count": blocks, "context_length": 512, "embedding_length": _WIDTH, "feed_forward_length": 128}
    sizes |= {"attention.head_count": _HEADS, "attention.layer_norm_rms_epsilon": 1e-5}
    return {f"{arch}.{key}": value for key, value in sizes.items()} | _bpe(pre)


def _lfm2() -> Pair:
    weights = _Weights(1)
    weights.add(token_embd=(_vocabulary_size(), _WIDTH), token_embd_norm=_WIDTH)
    for block in range(2):
        weights.add(f"blk.{block}.", attn_norm=_WIDTH, ffn_norm=_WIDTH, ffn_gate=(128, _WIDTH), ffn_up=(128, _WIDTH))
        weights.add(f"blk.{block}.", ffn_down=(_WIDTH, 128))
    for name, shape in {"conv": (_WIDTH, 3), "in_proj": (3 * _WIDTH, _WIDTH), "out_proj": (_WIDTH, _WIDTH)}.items():
        weights.add("blk.0.shortconv.", **{name: shape})
    weights.add("blk.1.", attn_q=(_WIDTH, _WIDTH), attn_k=(_HEAD, _WIDTH), attn_v=(_HEAD, _WIDTH))
    weights.add("blk.1.", attn_output=(_WIDTH, _WIDTH), attn_q_norm=_HEAD, attn_k_norm=_HEAD)
    keys = _common("lfm2", 2, "lfm2") | {"lfm2.attention.head_count_kv": [0, 1], "lfm2.shortconv.l_cache": 3}
    return Pair(
        *("lfm2", keys, weights.arrays, "lfm2"),
        lambda name: name.replace("token_embd_norm", "output_norm"),
        lambda keys: keys | {"lfm2.feed_forward_length": 192, "tokenizer.ggml.pre": "default"},
        {},
    )


def _laguna() -> Pair:
    weights = _Weights(2)
    vocabulary, experts, expert = _vocabulary_size(), 4, 32
    weights.add(token_embd=(vocabulary, _WIDTH), output_norm=_WIDTH, output=(vocabulary, _WIDTH))
    for block in range(4):
        prefix = f"blk.{block}."
        weights.add(prefix, attn_norm=_WIDTH, attn_q=(_WIDTH, _WIDTH), attn_k=(_HEAD, _WIDTH), attn_v=(_HEAD, _WIDTH))
        weights.add(prefix, attn_output=(_WIDTH, _WIDTH), attn_q_norm=_HEAD, attn_k_norm=_HEAD)
        weights.add(prefix, attn_gate=(_HEADS, _WIDTH), ffn_norm=_WIDTH)
        if block == 0:
            weights.add(prefix, ffn_gate=(128, _WIDTH), ffn_up=(128, _WIDTH), ffn_down=(_WIDTH, 128))
            continue
        weights.add(prefix, ffn_gate_inp=(experts, _WIDTH), exp_probs_b__bias=experts)
        weights.add(prefix, ffn_gate_exps=(experts, expert, _WIDTH), ffn_up_exps=(experts, expert, _WIDTH))
        weights.add(prefix, ffn_down_exps=(experts, _WIDTH, expert), ffn_gate_shexp=(expert, _WIDTH))
        weights.add(prefix, ffn_up_shexp=(expert, _WIDTH), ffn_down_shexp=(_WIDTH, expert))
    own = {"attention.head_count_kv": 1, "attention.key_length": _HEAD, "attention.value_length": _HEAD}
    own |= {"attention.sliding_window": 16, "leading_dense_block_count": 1, "expert_feed_forward_length": expert}
    own |= {"expert_count": experts, "expert_used_count": 2, "expert_shared_feed_forward_length": expert}
    full: Keys = own | {"rope.dimension_count": 16, "rope.freq_base": 500000.0, "rope.scaling.type": "yarn"}
    full |= {"rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 128}
    full |= {
        "rope.scaling.yarn_attn_factor": 1.138629,
        "rope.dimension_count_swa": _HEAD,
        "rope.freq_base_swa": 10000.0,
    }
    keys = _common("laguna", 4, "gpt-2") | {f"laguna.{key}": value for key, value in full.items()}
    names = {
        "laguna.rope.dimension_count_swa": "laguna.rope.swa.dimension_count",
        "laguna.rope.freq_base_swa": "laguna.rope.swa.freq_base",
        "laguna.rope.scaling.yarn_attn_factor": "laguna.rope.scaling.attn_factor",
    }
    return Pair(
        *("laguna", keys, weights.arrays, "laguna"),
        lambda name: name.replace(".attn_gate.", ".attn_g."),
        lambda keys: {names.get(key, key): value for key, value in keys.items()},
        {},
    )


def _deepseekocr() -> Pair:
    weights = _Weights(3)
    vocabulary, experts, expert = _vocabulary_size(), 4, 32
    weights.add(token_embd=(vocabulary, _WIDTH), output_norm=_WIDTH, output=(vocabulary, _WIDTH))
    for block in range(2):
        prefix = f"blk.{block}."
        weights.add(prefix, attn_norm=_WIDTH, ffn_norm=_WIDTH)
        weights.add(prefix, **{f"attn_{name}": (_WIDTH, _WIDTH) for name in ("q", "k", "v", "output")})
    weights.add("blk.0.", ffn_gate=(128, _WIDTH), ffn_up=(128, _WIDTH), ffn_down=(_WIDTH, 128))
    weights.add("blk.1.", ffn_gate_inp=(experts, _WIDTH), ffn_gate_exps=(experts, expert, _WIDTH))
    weights.add("blk.1.", ffn_up_exps=(experts, expert, _WIDTH), ffn_down_exps=(experts, _WIDTH, expert))
    weights.add("blk.1.", ffn_gate_shexp=(2 * expert, _WIDTH), ffn_up_shexp=(2 * expert, _WIDTH))
    weights.add("blk.1.", ffn_down_shexp=(_WIDTH, 2 * expert))
    own: Keys = {"attention.head_count_kv": _HEADS, "leading_dense_block_count": 1, "expert_count": experts}
    own |= {"expert_used_count": 2, "expert_feed_forward_length": expert, "expert_shared_count": 2}
    keys = _common("deepseek2-ocr", 2, "gpt-2") | {f"deepseek2-ocr.{key}": value for key, value in own.items()}
    derived = ("expert_feed_forward_length", "expert_shared_count", "attention.layer_norm_rms_epsilon")
    keys["deepseek2-ocr.attention.layer_norm_rms_epsilon"] = 1e-6
    return Pair(
        *("deepseek2-ocr", keys, weights.arrays, "deepseekocr"),
        lambda name: name,
        lambda keys: {key: value for key, value in keys.items() if not key.endswith(derived)},
        {name: np.ones(4, np.float32) for name in ("s.position_embd", "v.class_embd", "mm.layers.bias")},
    )


def _nemotron_super() -> Pair:
    weights = _Weights(4)
    vocabulary, experts, expert, latent, shared = _vocabulary_size(), 4, 48, 32, 96
    inner, state, groups, rank = 128, 32, 2, 4
    convolved = inner + 2 * groups * state
    weights.add(token_embd=(vocabulary, _WIDTH), output_norm=_WIDTH, output=(vocabulary, _WIDTH))
    for block in range(3):
        weights.add(f"blk.{block}.", attn_norm=_WIDTH)
    weights.add(
        "blk.0.",
        ssm_in=(inner + convolved + rank, _WIDTH),
        ssm_conv1d=(convolved, 4),
        ssm_norm=(groups, inner // groups),
    )
    weights.add("blk.0.", ssm_conv1d__bias=convolved, ssm_dt__bias=rank, ssm_out=(_WIDTH, inner))
    weights.arrays |= {"blk.0.ssm_a": -np.ones((rank, 1), np.float32), "blk.0.ssm_d": np.ones((rank, 1), np.float32)}
    weights.add("blk.1.", ffn_gate_inp=(experts, _WIDTH), exp_probs_b__bias=experts, ffn_latent_down=(latent, _WIDTH))
    weights.add("blk.1.", ffn_latent_up=(_WIDTH, latent), ffn_down_exps=(experts, latent, expert))
    weights.add(
        "blk.1.", ffn_up_exps=(experts, expert, latent), ffn_down_shexp=(_WIDTH, shared), ffn_up_shexp=(shared, _WIDTH)
    )
    weights.add(
        "blk.2.", attn_q=(_WIDTH, _WIDTH), attn_k=(_HEAD, _WIDTH), attn_v=(_HEAD, _WIDTH), attn_output=(_WIDTH, _WIDTH)
    )
    arch = "nemotron_h_moe"
    own: Keys = {"attention.head_count_kv": [0, 0, 1], "feed_forward_length": [0, expert, 0], "moe_latent_size": latent}
    own |= {"attention.layer_norm_epsilon": 1e-5, "attention.key_length": _HEAD, "attention.value_length": _HEAD}
    own |= {"ssm.conv_kernel": 4, "ssm.inner_size": inner, "ssm.state_size": state, "ssm.group_count": groups}
    own |= {"ssm.time_step_rank": rank, "expert_count": experts, "expert_used_count": 2, "expert_shared_count": 1}
    own |= {
        "expert_feed_forward_length": expert,
        "expert_shared_feed_forward_length": shared,
        "expert_weights_norm": True,
    }
    own |= {"expert_weights_scale": 2.5, "rope.dimension_count": _HEAD}
    keys = _common(arch, 3, "gpt-2") | {f"{arch}.{key}": value for key, value in own.items()}
    return Pair(
        *(arch, keys, weights.arrays, arch),
        lambda name: name.replace("latent_down", "latent_in").replace("latent_up", "latent_out"),
        lambda keys: {key: value for key, value in keys.items() if not key.endswith("moe_latent_size")},
        {"mtp.layers.0.mixer.experts.0.up_proj.weight": np.ones((4, 4), np.float32)},
    )


def _bert() -> Pair:
    weights = _Weights(5)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "▁", *letters]
    weights.add(token_embd=(len(tokens), _WIDTH), position_embd=(512, _WIDTH), token_types=(1, _WIDTH))
    weights.add(token_embd_norm=_WIDTH, token_embd_norm__bias=_WIDTH)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shapes: dict[str, int | tuple[int, ...]] = {name: (_WIDTH, _WIDTH), f"{name}__bias": _WIDTH}
        weights.add("blk.0.", **shapes)
    weights.add("blk.0.", ffn_up=(128, _WIDTH), ffn_up__bias=128, ffn_down=(_WIDTH, 128), ffn_down__bias=_WIDTH)
    for name in ("attn_output_norm", "layer_output_norm"):
        weights.add("blk.0.", **{name: _WIDTH, f"{name}__bias": _WIDTH})
    # a character map that replaces nothing: its length, a trie without children, an empty text
    charsmap = struct.pack("<I", 4 * _TRIE_NODES) + bytes(4 * _TRIE_NODES) + b"\0"
    keys: Keys = {
        "bert.block_count": 1,
        "bert.context_length": 512,
        "bert.embedding_length": _WIDTH,
        "bert.feed_forward_length": 128,
        "bert.attention.head_count": _HEADS,
        "bert.pooling_type": 1,
        "bert.attention.layer_norm_epsilon": 1e-5,
        "bert.attention.causal": False,
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, 0.0, *(-1.0 - number / 100 for number in range(1 + len(letters)))],
        "tokenizer.ggml.token_type": [_CONTROL] * 3 + [_UNKNOWN] + [_NORMAL] * (1 + len(letters)),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 1,
        "tokenizer.ggml.token_type_count": 1,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.precompiled_charsmap": charsmap,
    }
    text = list(base64.b64encode(charsmap).decode())
    return Pair(
        *("bert", keys, weights.arrays, "bert"),
        lambda name: name,
        lambda keys: keys | {"tokenizer.ggml.precompiled_charsmap": text},
        {},
        is_embedding=True,
    )
