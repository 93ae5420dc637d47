"""Gemma 3n and Gemma 4 of library files, turned back: config.json and the hub's tensors. See hubfamilies.py."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from tests.fakes.hub import JSON, LibraryFile
from tests.fakes.hubparts import DENSE, GEMMA, Tensors, config_of, text_tensors, vision_config

_OUTER = "model.language_model."
_SIDE = {"inp_gate": "per_layer_input_gate", "proj": "per_layer_projection", "post_norm": "post_per_layer_input_norm"}
_TABLES = {
    "per_layer_token_embd.weight": "embed_tokens_per_layer.weight",
    "per_layer_model_proj.weight": "per_layer_model_projection.weight",
    "per_layer_proj_norm.weight": "per_layer_projection_norm.weight",
}
_STREAMS = {
    "altup_correct_coef": "altup.correction_coefs",
    "altup_predict_coef": "altup.prediction_coefs",
    "altup_router": "altup.modality_router",
    "altup_router_norm": "altup.router_norm",
    "laurel_l": "laurel.linear_left",
    "laurel_r": "laurel.linear_right",
    "laurel_post_norm": "laurel.post_laurel_norm",
}


def _layer_types(file: LibraryFile) -> list[str]:
    pattern = file.get("attention.sliding_window_pattern")
    return ["sliding_attention" if slides else "full_attention" for slides in pattern]


def _tables(file: LibraryFile) -> Tensors:
    return {_OUTER + hub: file.take(name) for name, hub in _TABLES.items() if name in file.names()}


def gemma3n(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    tensors = text_tensors(file, {**GEMMA, **_SIDE, **_STREAMS}, _OUTER) | _tables(file)
    for name in file.names():
        match = re.fullmatch(r"blk\.(\d+)\.altup_correct_scale\.weight", name)
        if match:
            tensors[f"{_OUTER}layers.{match[1]}.altup.correct_output_scale"] = file.take(name)
    for name, hub in (("altup_proj", "altup_projections"), ("altup_unembd_proj", "altup_unembed_projections")):
        for number, matrix in enumerate(file.take(f"{name}.weight")):
            tensors[f"{_OUTER}{hub}.{number}.weight"] = matrix
    text = config_of(
        file,
        "Gemma3nForCausalLM",
        rope_parameters={
            "full_attention": {"rope_theta": file.get("rope.freq_base")},
            "sliding_attention": {"rope_theta": file.get("rope.freq_base_local")},
        },
        head_dim=file.get("head_dim"),
        intermediate_size=[file.get("feed_forward_length")] * file.get("block_count"),
        layer_types=_layer_types(file),
        num_kv_shared_layers=file.get("attention.shared_kv_layers"),
        hidden_size_per_layer_input=file.get("embedding_length_per_layer_input"),
        activation_sparsity_pattern=[0.95] * file.get("block_count"),
        altup_num_inputs=file.get("altup.num_inputs"),
    )
    return {"architectures": ["Gemma3nForConditionalGeneration"], "text_config": text}, tensors


_EYE = {
    "ln1": "input_layernorm",
    "ln2": "pre_feedforward_layernorm",
    "attn_post_norm": "post_attention_layernorm",
    "ffn_post_norm": "post_feedforward_layernorm",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
_EYE_CLAMPED = {**DENSE, **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"}, "attn_out": "self_attn.o_proj"}
_EAR = {
    "ln1": "norm_pre_attn",
    "ln2": "norm_post_attn",
    "layer_pre_norm": "norm_out",
    "linear_pos": "self_attn.relative_k_proj",
    "ffn_norm": "feed_forward1.pre_layer_norm",
    "ffn_post_norm": "feed_forward1.post_layer_norm",
    "ffn_norm_1": "feed_forward2.pre_layer_norm",
    "ffn_post_norm_1": "feed_forward2.post_layer_norm",
    "conv_norm": "lconv1d.pre_layer_norm",
    "norm_conv": "lconv1d.conv_norm",
}
_EAR_CLAMPED = {
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"},
    "attn_out": "self_attn.post",
    "ffn_up": "feed_forward1.ffw_layer_1",
    "ffn_down": "feed_forward1.ffw_layer_2",
    "ffn_up_1": "feed_forward2.ffw_layer_1",
    "ffn_down_1": "feed_forward2.ffw_layer_2",
    "conv_pw1": "lconv1d.linear_start",
    "conv_pw2": "lconv1d.linear_end",
}
_EAR_SINGLES = {
    **{f"a.conv1d.{n}.weight": f"subsample_conv_projection.layer{n}.conv.weight" for n in (0, 1)},
    **{f"a.conv1d.{n}.norm.weight": f"subsample_conv_projection.layer{n}.norm.weight" for n in (0, 1)},
    "a.pre_encode.out.weight": "subsample_conv_projection.input_proj_linear.weight",
    "mm.a.fc.weight": "output_proj.weight",
    "mm.a.fc.bias": "output_proj.bias",
}


def _clamped(file: LibraryFile, sense: str, outer: str, plain: dict[str, str], clamped: dict[str, str]) -> Tensors:
    """An encoder's blocks: layers whose inputs and outputs are clamped wrap their matrix in `linear`."""
    tensors = {}
    for name in file.names():
        match = re.fullmatch(rf"{sense}\.blk\.(\d+)\.(\w+)\.(\w+)", name)
        if match and match[2] in plain:
            tensors[f"{outer}{match[1]}.{plain[match[2]]}.{match[3]}"] = file.take(name)
        elif match and match[2] in clamped:
            inner = "linear." if match[3] == "weight" else ""
            tensors[f"{outer}{match[1]}.{clamped[match[2]]}.{inner}{match[3]}"] = file.take(name)
    return tensors


def _eyes(file: LibraryFile) -> Tensors:
    tower = "model.vision_tower."
    tensors = _clamped(file, "v", f"{tower}encoder.layers.", _EYE, _EYE_CLAMPED)
    patches = file.take("v.patch_embd.weight")
    tensors[f"{tower}patch_embedder.input_proj.weight"] = patches.transpose(0, 2, 3, 1).reshape(len(patches), -1)
    tensors[f"{tower}patch_embedder.position_embedding_table"] = file.take("v.position_embd.weight")
    tensors["model.embed_vision.embedding_projection.weight"] = file.take("mm.input_projection.weight")
    return tensors | {tower + name[2:]: file.take(name) for name in file.names() if name.startswith("v.std_")}


def _ears(file: LibraryFile) -> Tensors:
    tower = "model.audio_tower."
    tensors = _clamped(file, "a", f"{tower}layers.", _EAR, _EAR_CLAMPED)
    tensors |= {tower + hub: file.take(name) for name, hub in _EAR_SINGLES.items()}
    tensors["model.embed_audio.embedding_projection.weight"] = file.take("mm.a.input_projection.weight")
    for name in file.names():
        match = re.fullmatch(r"a\.blk\.(\d+)\.(per_dim_scale|conv_dw)\.weight", name)
        if match and match[2] == "conv_dw":
            tensors[f"{tower}layers.{match[1]}.lconv1d.depthwise_conv1d.weight"] = file.take(name)[:, None, :]
        elif match:
            tensors[f"{tower}layers.{match[1]}.self_attn.per_dim_scale"] = np.log(np.expm1(file.take(name)))
    return tensors


def gemma4(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    file.take("rope_freqs.weight")
    norms = {f"{a}_ffw_norm_{n}": f"{a}_feedforward_layernorm_{n}" for a, n in (("post", 1), ("post", 2), ("pre", 2))}
    blocks = {**GEMMA, **_SIDE, **norms, "ffn_gate_inp": "router.proj"}
    tensors = text_tensors(file, blocks, _OUTER) | _tables(file)
    singles = {
        "layer_output_scale.weight": "layer_scalar",
        "ffn_gate_inp.scale": "router.scale",
        "ffn_down_exps.scale": "router.per_expert_scale",
        "ffn_gate_up_exps.weight": "experts.gate_up_proj",
        "ffn_down_exps.weight": "experts.down_proj",
    }
    for name in file.names():
        _, _, rest = name.partition("blk.")
        number, _, leaf = rest.partition(".")
        if name.startswith("blk.") and leaf in singles:
            tensors[f"{_OUTER}layers.{number}.{singles[leaf]}"] = file.take(name)
    kinds, heads, widths = _layer_types(file), file.get("attention.head_count_kv"), file.get("feed_forward_length")
    full = kinds.index("full_attention")
    text = config_of(
        file,
        "Gemma4ForCausalLM",
        head_dim=file.get("attention.key_length_swa"),
        global_head_dim=file.get("attention.key_length"),
        num_key_value_heads=heads[0] if isinstance(heads, list) else heads,
        num_global_key_value_heads=heads[full] if isinstance(heads, list) else None,
        intermediate_size=widths[0] if isinstance(widths, list) else widths,
        use_double_wide_mlp=isinstance(widths, list),
        layer_types=kinds,
        num_kv_shared_layers=file.get("attention.shared_kv_layers"),
        hidden_size_per_layer_input=file.get("embedding_length_per_layer_input"),
        final_logit_softcapping=file.get("final_logit_softcapping"),
        rope_parameters={
            "full_attention": {"rope_theta": file.get("rope.freq_base"), "partial_rotary_factor": 0.25},
            "sliding_attention": {"rope_theta": file.get("rope.freq_base_swa")},
        },
    )
    config: JSON = {"architectures": ["Gemma4ForConditionalGeneration"], "text_config": text}
    config["vision_config"] = vision_config(file, pooling_kernel_size=file.get("vision.projector.scale_factor"))
    if file.get("audio.block_count"):
        keys = {"hidden_size": "embedding_length", "num_hidden_layers": "block_count"}
        config["audio_config"] = {key: file.get(f"audio.{name}") for key, name in keys.items()}
        config["audio_config"]["num_attention_heads"] = file.get("audio.attention.head_count")
        tensors |= _ears(file)
    return config, tensors | _eyes(file)
