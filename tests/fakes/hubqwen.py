"""The Qwen families of library files, turned back: config.json and the hub's tensors. See hubfamilies.py."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from tests.fakes.hub import JSON, Array, LibraryFile
from tests.fakes.hubparts import (
    ATTENTION,
    DENSE,
    QWEN,
    SHARED,
    Tensors,
    apart,
    changed,
    config_of,
    expert_stacks,
    packed,
    renamed,
    text_tensors,
)

_QWEN_EYE = {
    "ln1": "norm1",
    "ln2": "norm2",
    "norm1": "norm1",
    "norm2": "norm2",
    "attn_out": "attn.proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "mlp.linear_fc1": "mlp.linear_fc1",
    "mlp.linear_fc2": "mlp.linear_fc2",
}


def _qwen_eye(file: LibraryFile, outer: str) -> Tensors:
    """The encoder's blocks, with q, k and v in one tensor again."""
    tensors = renamed(file, _QWEN_EYE, "v.blk.", outer, "blocks")
    for name in file.names():
        match = re.fullmatch(r"v\.blk\.(\d+)\.attn_q\.(weight|bias)", name)
        if match:
            parts = [file.take(name.replace("attn_q", f"attn_{part}")) for part in "qkv"]
            tensors[f"{outer}blocks.{match[1]}.attn.qkv.{match[2]}"] = np.concatenate(parts)
    return tensors


def qwen25vl(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    sections = [int(n) for n in file.get("rope.mrope_section")]
    frames = [file.take(f"v.patch_embd_{number}.weight") for number in (0, 1)]
    tensors = text_tensors(file, QWEN) | _qwen_eye(file, "visual.")
    tensors["visual.patch_embed.proj.weight"] = np.stack(frames, axis=2)
    tensors |= {name.replace("v.", "visual.", 1): file.take(name) for name in file.names()}
    vision = {"depth": file.get("vision.block_count"), "num_heads": file.get("vision.attention.head_count")}
    vision |= {"hidden_size": file.get("vision.embedding_length"), "patch_size": file.get("vision.patch_size")}
    vision |= {"intermediate_size": tensors["visual.blocks.0.mlp.up_proj.weight"].shape[0], "spatial_merge_size": 2}
    vision |= {"fullatt_block_indexes": [int(n) for n in file.get("vision.fullatt_block_indexes")]}
    config = config_of(file, "Qwen2_5_VLForConditionalGeneration", vision_config=vision)
    return config | {"rope_scaling": {"type": "mrope", "mrope_section": sections}}, tensors


def _qwen3_eye(file: LibraryFile, deepstack: str) -> tuple[JSON, Tensors]:
    outer = "model.visual."
    tensors = _qwen_eye(file, outer)
    patches = file.take("v.patch_embed.weight")
    size, width = patches.shape[-1], file.get("vision.embedding_length")
    tensors[f"{outer}patch_embed.proj.weight"] = patches.reshape(width, -1, 2, size, size)
    tensors[f"{outer}patch_embed.proj.bias"] = file.take("v.patch_embed.bias")
    for name in file.names():
        if name.startswith("v."):
            tensors[outer + name.removeprefix("v.").replace(f"{deepstack}.", "deepstack_merger_list.")] = file.take(
                name
            )
    vision = {
        "depth": file.get("vision.block_count"),
        "num_heads": file.get("vision.attention.head_count"),
        "hidden_size": width,
        "intermediate_size": tensors[f"{outer}blocks.0.mlp.linear_fc1.weight"].shape[0],
        "num_position_embeddings": tensors[f"{outer}pos_embed.weight"].shape[0],
        "patch_size": size,
        "deepstack_visual_indexes": [int(n) for n in file.get("vision.deepstack_visual_indexes") or []],
    }
    return vision, tensors


def qwen3vl(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    moe = "moe" if file.architecture.endswith("moe") else ""
    name = f"Qwen3VL{moe.title()}ForConditionalGeneration"
    text = config_of(file, name, rope_scaling={"rope_type": "default", "mrope_section": [24, 20, 20]})
    outer = "model.language_model."
    stacks = expert_stacks(file, outer)
    if stacks:
        text["moe_intermediate_size"] = stacks[f"{outer}layers.0 gate"].shape[1]
    vision, eye = _qwen3_eye(file, "deepstack_merger")
    tensors = packed(text_tensors(file, QWEN, outer), stacks, "mlp.experts", turned=True)
    return {"architectures": [name], "text_config": text, "vision_config": vision}, tensors | eye


_LINEAR = {
    **ATTENTION,
    **DENSE,
    **SHARED,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ssm_a": "linear_attn.A_log",
    "ssm_dt": "linear_attn.dt_bias",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj",
    "ssm_ba": "linear_attn.in_proj_ba",
}
_QWEN35 = {
    **_LINEAR,
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_beta": "linear_attn.in_proj_b",
}


def _linear_config(file: LibraryFile, name: str) -> JSON:
    heads = file.get("ssm.time_step_rank")
    return config_of(
        file,
        name,
        linear_num_key_heads=file.get("ssm.group_count"),
        linear_num_value_heads=heads,
        linear_key_head_dim=file.get("ssm.state_size"),
        linear_value_head_dim=file.get("ssm.inner_size") // heads,
        linear_conv_kernel_dim=file.get("ssm.conv_kernel"),
        shared_expert_intermediate_size=file.get("expert_shared_feed_forward_length"),
        full_attention_interval=file.get("full_attention_interval"),
        partial_rotary_factor=file.get("rope.dimension_count") / file.get("attention.key_length"),
    )


def _linear_tensors(tensors: Tensors) -> Tensors:
    tensors = changed(tensors, r"(?<!linear_attn\.)norm\.weight$", lambda v: v - 1)
    tensors = changed(tensors, r"\.A_log$", lambda v: np.log(-v))
    tensors = changed(tensors, r"\.shared_expert_gate\.weight$", lambda v: v.reshape(1, -1))
    return changed(tensors, r"\.conv1d\.weight$", lambda v: v[:, None, :])


def qwen3next(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    config = _linear_config(file, "Qwen3NextForCausalLM")
    stacks = expert_stacks(file, "model.")
    tensors = _linear_tensors(text_tensors(file, _LINEAR))
    keys, k, v = config["linear_num_key_heads"], config["linear_key_head_dim"], config["linear_value_head_dim"]
    per_key = config["linear_num_value_heads"] // keys * v
    for name in [name for name in file.names() if name.endswith("attn_qkv.weight")]:
        qkv, z = file.take(name), file.take(name.replace("attn_qkv", "attn_gate"))
        groups = np.split(qkv, [keys * k, 2 * keys * k])
        by_head = [
            part.reshape(keys, width, -1) for part, width in zip([*groups, z], (k, k, per_key, per_key), strict=True)
        ]
        layer = name.split(".")[1]
        joined = np.concatenate(by_head, axis=1).reshape(-1, qkv.shape[1])
        tensors[f"model.layers.{layer}.linear_attn.in_proj_qkvz.weight"] = joined
    return config, apart(tensors, stacks, "mlp.experts.{}")


def qwen35(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    moe = "Moe" if file.architecture.endswith("moe") else ""
    name, outer = f"Qwen3_5{moe}ForConditionalGeneration", "model.language_model."
    text = _linear_config(file, name)
    if moe:
        del text["intermediate_size"]
    sections = [int(n) for n in file.get("rope.dimension_sections")]
    text["rope_parameters"] = {"rope_theta": text["rope_theta"], "mrope_section": sections, "rope_type": "default"}
    text["rope_parameters"]["partial_rotary_factor"] = text["partial_rotary_factor"]
    vision, eye = _qwen3_eye(file, "deepstack_merger")
    stacks = expert_stacks(file, outer)
    drafts = renamed(file, _QWEN35, "mtp.layers.", "mtp.")
    drafts |= {name: file.take(name) for name in file.names() if name.startswith("mtp.")}
    tensors = _linear_tensors(_by_key_head(text_tensors(file, _QWEN35, outer), text))
    tensors = packed(tensors, stacks, "mlp.experts", turned=False)
    return {"architectures": [name], "text_config": text, "vision_config": vision}, tensors | eye | drafts


def _by_key_head(tensors: Tensors, config: JSON) -> Tensors:
    """Value heads from ggml's turns back to key head by key head."""
    keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    first = 2 * keys * config["linear_key_head_dim"]

    def back(part: Array, width: int) -> Array:
        return part.reshape(values // keys, keys, width, *part.shape[1:]).swapaxes(0, 1).reshape(part.shape)

    wide = config["linear_value_head_dim"]
    widths = {"in_proj_z": wide, "in_proj_a": 1, "in_proj_b": 1, "A_log": 1, "dt_bias": 1}
    found = {}
    for name, tensor in tensors.items():
        kind = next((kind for kind in widths if f"linear_attn.{kind}" in name), None)
        if kind:
            found[name] = back(tensor, widths[kind])
        elif "in_proj_qkv" in name or "conv1d" in name:
            found[name] = np.concatenate([tensor[:first], back(tensor[first:], wide)])
        elif "linear_attn.out_proj" in name:
            found[name] = back(tensor.T, wide).T
        else:
            found[name] = tensor
    return found
