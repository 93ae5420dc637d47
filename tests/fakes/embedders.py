"""A tiny Qwen 3 Embedding: a decoder as sentence-transformers keeps it, without a head and without `model.`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.fakes.checkpoints import tokenizer_json, weights, write_checkpoint

Array = npt.NDArray[np.float64]
KINDS = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
LAST = {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False}
PAD = 319  # what the template puts behind a text; the end of a turn is 318


def write_embedder(
    folder: Path,
    reference: Mapping[str, Any],
    pooling: Mapping[str, Any] = LAST,
    kinds: tuple[tuple[str, str], ...] = KINDS,
) -> dict[str, Path]:
    """Write the checkpoint; returns the files as `convert_directory` takes them."""
    shapes = {name: shape for name, shape in reference["shapes"].items() if name != "lm_head.weight"}
    write_checkpoint(folder, reference["config"], shapes)
    _without_prefix(folder / "model.safetensors")
    template = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|pad|>", "type_id": 0}}]
    tokenizer = {**tokenizer_json(), "post_processor": {"type": "TemplateProcessing", "single": template}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    listed = [{"idx": i, "path": path, "type": f"st.models.{kind}"} for i, (path, kind) in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _without_prefix(path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    save_file({name.removeprefix("model."): values for name, values in load_file(path).items()}, path)


def last_state(reference: Mapping[str, Any], ids: Sequence[int]) -> Array:
    """What a Qwen 3 of these weights makes of the last of some tokens, behind its last norm: (embedding,)."""
    config = reference["config"]
    held = {name: weights(name, shape).astype(np.float64) for name, shape in reference["shapes"].items()}
    states = held["model.embed_tokens.weight"][list(ids)]
    for number in range(config["num_hidden_layers"]):
        stem = f"model.layers.{number}."
        layer = {name.removeprefix(stem): values for name, values in held.items() if name.startswith(stem)}
        states = states + _attention(layer, _normed(states, layer["input_layernorm.weight"]), config)
        inner = _normed(states, layer["post_attention_layernorm.weight"])
        gate = inner @ layer["mlp.gate_proj.weight"].T
        up = inner @ layer["mlp.up_proj.weight"].T
        states = states + (gate / (1 + np.exp(-gate)) * up) @ layer["mlp.down_proj.weight"].T
    last: Array = _normed(states, held["model.norm.weight"])[-1]
    return last


def _attention(layer: Mapping[str, Array], states: Array, config: Mapping[str, Any]) -> Array:
    count, width = len(states), config["head_dim"]
    angles = np.outer(np.arange(count), config["rope_parameters"]["rope_theta"] ** -(np.arange(0, width, 2) / width))
    heads = {}
    for kind in "qkv":
        heads[kind] = (states @ layer[f"self_attn.{kind}_proj.weight"].T).reshape(count, -1, width).swapaxes(0, 1)
    for kind in "qk":
        one, other = np.split(_normed(heads[kind], layer[f"self_attn.{kind}_norm.weight"]), 2, axis=-1)
        cosine, sine = np.cos(angles), np.sin(angles)
        heads[kind] = np.concatenate([one * cosine - other * sine, other * cosine + one * sine], axis=-1)
    shared = len(heads["q"]) // len(heads["k"])
    keys, values = (heads[kind].repeat(shared, axis=0) for kind in "kv")
    scores = heads["q"] @ keys.swapaxes(1, 2) / np.sqrt(width) + np.triu(np.full((count, count), -np.inf), 1)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (shares / shares.sum(-1, keepdims=True)) @ values
    out: Array = mixed.swapaxes(0, 1).reshape(count, -1) @ layer["self_attn.o_proj.weight"].T
    return out


def _normed(states: Array, weight: Array) -> Array:
    scaled: Array = states / np.sqrt((states**2).mean(-1, keepdims=True) + 1e-6) * weight
    return scaled
