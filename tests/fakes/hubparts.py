"""What turning library files back into checkpoints has in common: the names of decoders' tensors, stacks, configs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
from tests.fakes.hub import JSON, Array, LibraryFile

Tensors = dict[str, Array]

ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
DENSE = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
SHARED = {f"{key}_shexp": name.replace("mlp.", "mlp.shared_expert.") for key, name in DENSE.items()}
QWEN = {**ATTENTION, **DENSE, "ffn_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.gate"}
GEMMA = {
    **ATTENTION,
    **DENSE,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def config_of(file: LibraryFile, name: str, **more: object) -> JSON:
    """The keys that all decoders share."""
    keys = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "max_position_embeddings": "context_length",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "rope_theta": "rope.freq_base",
        "head_dim": "attention.key_length",
        "num_experts": "expert_count",
        "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length",
        "sliding_window": "attention.sliding_window",
    }
    found = {key: file.get(path) for key, path in keys.items() if file.get(path) is not None}
    if isinstance(found["num_key_value_heads"], list):
        found["num_key_value_heads"] = max(found["num_key_value_heads"])
    vocabulary = {"vocab_size": len(file.get("tokenizer.ggml.tokens")), "architectures": [name]}
    return {**found, **vocabulary, "tie_word_embeddings": not file.has_output, **more}


def renamed(file: LibraryFile, blocks: Mapping[str, str], prefix: str, outer: str, layers: str = "layers") -> Tensors:
    """Take the tensors `<prefix>N.<key>.…` whose key is known, under the hub's names."""
    tensors = {}
    for name in file.names():
        match = re.fullmatch(re.escape(prefix) + r"(\d+)\.(.+?)(\.weight|\.bias|)", name)
        if match and match[2] in blocks:
            tensors[f"{outer}{layers}.{match[1]}.{blocks[match[2]]}{match[3]}"] = file.take(name)
    return tensors


def taken(file: LibraryFile, names: Mapping[str, str]) -> Tensors:
    """Take single tensors, of which some may be absent."""
    return {hub: file.take(name) for name, hub in names.items() if name in file.names()}


def text_tensors(file: LibraryFile, blocks: Mapping[str, str], outer: str = "model.", head: str = "") -> Tensors:
    singles = {"token_embd.weight": "embed_tokens", "output_norm.weight": "norm"}
    tensors = taken(file, {name: f"{outer}{hub}.weight" for name, hub in singles.items()})
    tensors |= taken(file, {"output.weight": f"{head}lm_head.weight"})
    return tensors | renamed(file, blocks, "blk.", outer)


def changed(tensors: Tensors, pattern: str, change: Callable[[Array], Array]) -> Tensors:
    return {name: change(values) if re.search(pattern, name) else values for name, values in tensors.items()}


def halves(values: Array, heads: int) -> Array:
    """Rotary rows from interleaved back to half-split order."""
    split = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    return split.swapaxes(1, 2).reshape(values.shape)


def apart(tensors: Tensors, stacks: Mapping[str, Array], place: str) -> Tensors:
    """Expert stacks as a tensor an expert, under `place` with the expert's number for {}."""
    for layer_kind, values in stacks.items():
        layer, kind = layer_kind.split()
        for number, expert in enumerate(values):
            tensors[f"{layer}.{place.format(number)}.{kind}_proj.weight"] = expert
    return tensors


def expert_stacks(file: LibraryFile, outer: str) -> dict[str, Array]:
    """Expert stacks by "layer kind"."""
    found = {}
    for name in file.names():
        match = re.fullmatch(r"blk\.(\d+)\.ffn_(gate|up|down)_exps\.weight", name)
        if match:
            found[f"{outer}layers.{match[1]} {match[2]}"] = file.take(name)
    return found


def packed(tensors: Tensors, stacks: Mapping[str, Array], place: str, *, turned: bool) -> Tensors:
    """Gate and up in one tensor; `turned`: input before output."""
    for layer in {key.split()[0] for key in stacks}:
        both = np.concatenate([stacks[f"{layer} gate"], stacks[f"{layer} up"]], axis=1)
        for kind, values in (("gate_up", both), ("down", stacks[f"{layer} down"])):
            tensors[f"{layer}.{place}.{kind}_proj"] = values.swapaxes(1, 2) if turned else values
    return tensors


def vision_config(file: LibraryFile, **more: object) -> JSON:
    keys = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "patch_size": "patch_size",
    }
    return {key: file.get(f"vision.{name}") for key, name in keys.items()} | more
