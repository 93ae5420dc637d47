"""Per family: config.json and the hub's tensors of a library file. `hub_checkpoint` is the entry; see hub.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tests.fakes.hub import JSON, Array, LibraryFile, write_safetensors, write_tokenizer
from tests.fakes.hubgemma import gemma3n, gemma4
from tests.fakes.hubparts import (
    ATTENTION,
    DENSE,
    GEMMA,
    QWEN,
    SHARED,
    Tensors,
    apart,
    changed,
    config_of,
    expert_stacks,
    halves,
    packed,
    renamed,
    taken,
    text_tensors,
    vision_config,
)
from tests.fakes.hubqwen import qwen3next, qwen3vl, qwen25vl, qwen35


def hub_checkpoint(source: Path, folder: Path) -> dict[str, Path]:
    """The checkpoint of a library file in `folder`; returns its files as `plan_conversion` takes them."""
    file = LibraryFile(source)
    make, split = _FAMILIES["embeddinggemma" if "dense.0.weight" in file.names() else file.architecture]
    folder.mkdir(parents=True, exist_ok=True)
    config, tensors = make(file, folder)
    assert not file.names(), f"not turned back: {file.names()}"
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    write_tokenizer(folder, file, split)
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def known(architecture: str) -> bool:
    """Whether files of an architecture can be turned back."""
    return architecture in _FAMILIES


def _gemma(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    local = file.get("rope.local.freq_base", 10000.0)
    more = {
        "rope_theta": file.get("rope.global.freq_base", 1e6),
        "rope_local_base_freq": local,
        "tie_word_embeddings": True,
    }
    more |= {"rms_norm_eps": 1e-6, "final_logit_softcapping": file.get("final_logit_softcapping")}
    if not any(name.startswith("v.") for name in file.names()):
        tensors = text_tensors(file, GEMMA)
        return config_of(file, "Gemma3ForCausalLM", **more), changed(tensors, r"norm\.weight$", lambda v: v - 1)
    text = config_of(
        file, "Gemma3ForConditionalGeneration", **more, rope_scaling={"rope_type": "linear", "factor": 8.0}
    )
    tensors = changed(text_tensors(file, GEMMA, "language_model.model."), r"norm\.weight$", lambda v: v - 1)
    tower = "vision_tower.vision_model."
    layers = {
        "layer_norm1": "layer_norm1",
        "layer_norm2": "layer_norm2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
        **{key: name.replace("o_proj", "out_proj") for key, name in ATTENTION.items()},
    }
    tensors |= renamed(file, layers, "v.blk.", f"{tower}encoder.")
    for name in file.names():
        inner = name.removeprefix("v.")
        place = "embeddings." if "embedding" in inner else ""
        if name == "mm.mm_soft_emb_norm.weight":
            tensors["multi_modal_projector.mm_soft_emb_norm.weight"] = file.take(name) - 1
        elif name == "mm.mm_input_projection.weight":
            tensors["multi_modal_projector.mm_input_projection_weight"] = file.take(name)
        else:
            tensors[f"{tower}{place}{inner}"] = file.take(name)
    vision = vision_config(file, layer_norm_eps=1e-6, image_size=file.get("vision.image_size"))
    config = {"architectures": text["architectures"], "text_config": text, "vision_config": vision}
    return {**config, "mm_tokens_per_image": file.get("mm.tokens_per_image")}, tensors


def _embedding_gemma(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    for number, path in ((0, "2_Dense"), (1, "3_Dense")):
        dense = {"linear.weight": file.take(f"dense.{number}.weight")}
        write_safetensors(folder / path / "model.safetensors", dense)
    modules = [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Dense", "Dense"),
        ("3_Dense", "Dense"),
        ("4_Normalize", "Normalize"),
    ]
    listed = [{"idx": i, "path": path, "type": f"st.{kind}"} for i, (path, kind) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    tensors = taken(file, {"norm.weight": "norm.weight"}) | text_tensors(file, GEMMA, "")
    config = config_of(file, "Gemma3TextModel", rope_local_base_freq=10000.0)
    return config, changed(tensors, r"norm\.weight$", lambda v: v - 1)


def _gptoss(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    names = {
        **ATTENTION,
        "attn_out": "self_attn.o_proj",
        "attn_sinks": "self_attn.sinks",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate_inp": "mlp.router",
    }
    experts: dict[str, dict[str, Array]] = {}
    for name in file.names():
        match = re.fullmatch(r"blk\.(\d+)\.ffn_(gate|up|down)_exps\.(weight|bias)", name)
        if match:
            take = file.take_blocks if match[3] == "weight" else file.take
            experts.setdefault(f"model.layers.{match[1]}.mlp.experts", {})[f"{match[2]}.{match[3]}"] = take(name)
    tensors = text_tensors(file, names)
    for place, parts in experts.items():
        for end in ("weight", "bias"):
            both = np.stack([parts[f"gate.{end}"], parts[f"up.{end}"]], axis=2)
            parts[f"gate_up.{end}"] = both.reshape(both.shape[0], -1, *both.shape[3:])
        for kind in ("gate_up", "down"):
            tensors[f"{place}.{kind}_proj_bias"] = parts[f"{kind}.bias"]
            blocks = parts[f"{kind}.weight"].reshape(*parts[f"{kind}.weight"].shape[:2], -1, 17)
            tensors[f"{place}.{kind}_proj_scales"] = blocks[..., 0]
            low, high = blocks[..., 1:] & 15, blocks[..., 1:] >> 4
            codes = np.concatenate([low, high], axis=-1)
            tensors[f"{place}.{kind}_proj_blocks"] = codes[..., ::2] | codes[..., 1::2] << 4
    scaling = {"rope_type": "yarn", "factor": file.get("rope.scaling.factor"), "beta_fast": 32.0, "beta_slow": 1.0}
    scaling["original_max_position_embeddings"] = file.get("rope.scaling.original_context_length")
    more = {"rope_scaling": scaling, "quantization_config": {"quant_method": "mxfp4"}}
    return config_of(file, "GptOssForCausalLM", **more), tensors


def _mistral3(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    sees = any(name.startswith("v.") for name in file.names())
    outer = "language_model." if sees else ""
    scaling = {
        "rope_type": "yarn",
        "rope_theta": file.get("rope.freq_base"),
        "original_max_position_embeddings": file.get("rope.scaling.original_context_length"),
        "llama_4_scaling_beta": file.get("rope.scaling_beta"),
        **{
            key: file.get(f"rope.scaling.{key}")
            for key in ("factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
        },
    }
    text = config_of(file, "Ministral3ForCausalLM", rope_parameters=scaling, model_type="ministral3")
    tensors = text_tensors(file, {**QWEN}, f"{outer}model.", outer)
    for part, heads in (("q", text["num_attention_heads"]), ("k", text["num_key_value_heads"])):
        tensors = changed(tensors, rf"\.{part}_proj\.weight$", lambda v, heads=heads: halves(v, heads))  # type: ignore[misc]
    if not sees:
        return text, tensors
    names = {f"attn_{part}": f"attention.{part}_proj" for part in "qkv"}
    names |= {"attn_output": "attention.o_proj", "attn_norm": "attention_norm", "ffn_norm": "ffn_norm"}
    names |= {key: name.replace("mlp.", "feed_forward.") for key, name in DENSE.items()}
    tensors |= renamed(file, names, "v.blk.", "vision_tower.transformer.")
    singles = {
        "v.encoder_norm.weight": "vision_tower.ln_pre.weight",
        "v.patch_conv.weight": "vision_tower.patch_conv.weight",
    }
    tensors |= taken(file, singles)
    tensors |= {name.replace("mm.", "multi_modal_projector.", 1): file.take(name) for name in file.names()}
    vision = vision_config(file, image_size=file.get("vision.image_size"), hidden_act="silu")
    config = {"architectures": ["Mistral3ForConditionalGeneration"], "text_config": text, "vision_config": vision}
    return {**config, "spatial_merge_size": file.get("spatial_merge_size")}, tensors


def _llama4(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    outer = "language_model.model."
    names = {key: name.replace("mlp.", "feed_forward.") for key, name in {**QWEN, **SHARED}.items()}
    names["ffn_gate_inp"] = "feed_forward.router"
    stretched = float(file.take("rope_freqs.weight").max())
    stacks = expert_stacks(file, outer)
    tensors = packed(text_tensors(file, names, outer, "language_model."), stacks, "feed_forward.experts", turned=True)
    layers = {key: name for key, name in ATTENTION.items()} | {"ffn_norm": "post_attention_layernorm"}
    tensors |= renamed(file, {**layers, "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}, "v.blk.", "vision_model.model.")
    tensors |= taken(file, {"mm.linear_1.weight": "multi_modal_projector.linear_1.weight"})
    for name in file.names():
        hub = name.replace("v.", "vision_model.", 1).replace("patch_embedding.", "patch_embedding.linear.")
        tensors[hub] = file.take(name)
    scaling = {"rope_type": "llama3", "factor": stretched, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    text = config_of(
        file,
        "Llama4ForConditionalGeneration",
        rope_scaling={**scaling, "original_max_position_embeddings": 8192},
        intermediate_size=file.get("expert_feed_forward_length"),
        intermediate_size_mlp=file.get("feed_forward_length"),
        interleave_moe_layer_step=file.get("interleave_moe_layer_step"),
    )
    ratio = file.get("vision.pixel_shuffle_ratio")
    vision = vision_config(file, image_size=file.get("vision.image_size"), pixel_shuffle_ratio=ratio, norm_eps=1e-5)
    return {"architectures": text["architectures"], "text_config": text, "vision_config": vision}, tensors


def _olmo3(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    kinds = ["sliding_attention" if wide else "full_attention" for wide in file.get("attention.sliding_window_pattern")]
    scaling = {"rope_type": "yarn", "attention_factor": file.get("rope.scaling.attn_factor"), "beta_fast": 32.0}
    scaling |= {"factor": file.get("rope.scaling.factor"), "beta_slow": 1.0}
    scaling["original_max_position_embeddings"] = file.get("rope.scaling.original_context_length")
    names = {key: name for key, name in GEMMA.items() if key not in ("attn_norm", "ffn_norm")}
    return config_of(file, "Olmo3ForCausalLM", layer_types=kinds, rope_scaling=scaling), text_tensors(file, names)


def _glm(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    names = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
        "attn_kv_a_norm": "self_attn.kv_a_layernorm",
        "attn_q_a": "self_attn.q_a_proj",
        "attn_q_a_norm": "self_attn.q_a_layernorm",
        "attn_q_b": "self_attn.q_b_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate_inp": "mlp.gate",
        **DENSE,
        **{key: name.replace("shared_expert", "shared_experts") for key, name in SHARED.items()},
    }
    stacks = expert_stacks(file, "model.")
    tensors = apart(text_tensors(file, names), stacks, "mlp.experts.{}")
    nope = wide = 0
    for name in file.names():
        layer = name.split(".")[1]
        if name.endswith("exp_probs_b.bias"):
            tensors[f"model.layers.{layer}.mlp.gate.e_score_correction_bias"] = file.take(name)
        elif name.endswith("attn_k_b.weight"):
            keys, values = file.take(name).swapaxes(1, 2), file.take(name.replace("attn_k_b", "attn_v_b"))
            both = np.concatenate([keys, values], axis=1)
            tensors[f"model.layers.{layer}.self_attn.kv_b_proj.weight"] = both.reshape(-1, both.shape[2])
            nope, wide = keys.shape[1], values.shape[1]
    rotated = file.get("rope.dimension_count")
    config = config_of(
        file,
        "Glm4MoeLiteForCausalLM",
        n_routed_experts=file.get("expert_count"),
        n_shared_experts=file.get("expert_shared_count"),
        kv_lora_rank=file.get("attention.kv_lora_rank"),
        q_lora_rank=file.get("attention.q_lora_rank"),
        qk_rope_head_dim=rotated,
        qk_nope_head_dim=nope,
        v_head_dim=wide,
        first_k_dense_replace=file.get("leading_dense_block_count"),
        routed_scaling_factor=file.get("expert_weights_scale"),
        norm_topk_prob=file.get("expert_weights_norm"),
        n_group=1,
        topk_group=1,
    )
    del config["head_dim"]
    return config, tensors


def _glm_ocr(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    names = {
        **ATTENTION,
        "attn_out": "self_attn.o_proj",
        "post_attn_norm": "post_self_attn_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "post_ffn_norm": "post_mlp_layernorm",
        "ffn_down": "mlp.down_proj",
    }
    outer = "model.language_model."
    tensors = text_tensors(file, names, outer)
    for layer in range(file.get("block_count")):
        parts = [file.take(f"blk.{layer}.ffn_{part}.weight") for part in ("gate", "up")]
        tensors[f"{outer}layers.{layer}.mlp.gate_up_proj.weight"] = np.concatenate(parts)
    width = file.get("attention.key_length")
    pairs = np.arange(width).reshape(2, -1).T.reshape(-1)  # rotary rows side by side again
    tensors = changed(
        tensors,
        r"\.(q|k)_proj\.weight$",
        lambda v: v.reshape(-1, width, v.shape[1])[:, pairs].reshape(v.shape),
    )
    eye = {"ln1": "norm1", "ln2": "norm2", "attn_out": "attn.proj", "attn_qkv": "attn.qkv", **DENSE}
    eye |= {"attn_q_norm": "attn.q_norm", "attn_k_norm": "attn.k_norm"}
    tower = "model.visual."
    tensors |= renamed(file, eye, "v.blk.", tower, "blocks")
    frames = [file.take(name) for name in ("v.patch_embd_0.weight", "v.patch_embd_1.weight")]
    tensors[f"{tower}patch_embed.proj.weight"] = np.stack(frames, axis=2)
    singles = {"v.patch_embd": "patch_embed.proj", "v.post_ln": "post_layernorm", "mm.patch_merger": "downsample"}
    singles |= {"mm.model.fc": "merger.proj", "mm.post_norm": "merger.post_projection_norm"}
    singles |= {f"mm.{part}": f"merger.{part}_proj" for part in ("gate", "up", "down")}
    for name, hub in singles.items():
        tensors |= taken(file, {f"{name}.{end}": f"{tower}{hub}.{end}" for end in ("weight", "bias")})
    scaling = {
        "rope_theta": file.get("rope.freq_base"),
        "partial_rotary_factor": file.get("rope.partial_rotary_factor"),
    }
    scaling["mrope_section"] = [int(n) for n in file.get("rope.mrope_section")]
    name = "GlmOcrForConditionalGeneration"
    vision = vision_config(file, image_size=file.get("vision.image_size"))
    vision |= {"intermediate_size": file.get("vision.intermediate_size"), "rms_norm_eps": 1e-5, "hidden_act": "silu"}
    text = config_of(file, name, rope_parameters=scaling)
    return {"architectures": [name], "text_config": text, "vision_config": vision}, tensors


def _nemotron(file: LibraryFile, folder: Path) -> tuple[JSON, Tensors]:
    mixer = {
        **{f"attn_{part}": f"mixer.{part}_proj" for part in "qkv"},
        **{f"ssm_{part}": f"mixer.{part}_proj" for part in ("in", "out")},
        **{f"ffn_{part}_shexp": f"mixer.shared_experts.{part}_proj" for part in ("up", "down")},
        "attn_norm": "norm",
        "attn_output": "mixer.o_proj",
        "ssm_a": "mixer.A_log",
        "ssm_d": "mixer.D",
        "ssm_conv1d": "mixer.conv1d",
        "ssm_norm": "mixer.norm",
        "ffn_gate_inp": "mixer.gate",
    }
    outer = "backbone."
    singles = {"token_embd.weight": f"{outer}embeddings.weight", "output_norm.weight": f"{outer}norm_f.weight"}
    tensors = taken(file, {**singles, "output.weight": "lm_head.weight"}) | renamed(file, mixer, "blk.", outer)
    tensors = apart(tensors, expert_stacks(file, outer), "mixer.experts.{}")
    for name in file.names():
        layer = name.split(".")[1]
        leaf = "gate.e_score_correction_bias" if "exp_probs_b" in name else "dt_bias"
        tensors[f"{outer}layers.{layer}.mixer.{leaf}"] = file.take(name)
    tensors = changed(tensors, r"\.A_log$", lambda v: np.log(-v))
    tensors = changed(tensors, r"mixer\.(A_log|D|norm\.weight)$", lambda v: v.reshape(-1))
    tensors = changed(tensors, r"\.conv1d\.weight$", lambda v: v[:, None, :])
    heads, widths = file.get("attention.head_count_kv"), file.get("feed_forward_length")
    letters = ("*" if kv else "E" if width else "M" for kv, width in zip(heads, widths, strict=True))
    config = config_of(
        file,
        "NemotronHForCausalLM",
        hybrid_override_pattern="".join(letters),
        layer_norm_epsilon=file.get("attention.layer_norm_epsilon"),
        mamba_num_heads=file.get("ssm.time_step_rank"),
        mamba_head_dim=file.get("ssm.inner_size") // file.get("ssm.time_step_rank"),
        n_groups=file.get("ssm.group_count"),
        ssm_state_size=file.get("ssm.state_size"),
        conv_kernel=file.get("ssm.conv_kernel"),
        n_routed_experts=file.get("expert_count"),
        n_shared_experts=file.get("expert_shared_count"),
        moe_shared_expert_intermediate_size=file.get("expert_shared_feed_forward_length"),
        routed_scaling_factor=file.get("expert_weights_scale"),
        n_group=1,
        topk_group=1,
    )
    del config["intermediate_size"]
    return config, tensors


_Make = Callable[[LibraryFile, Path], tuple[JSON, Tensors]]
_FAMILIES: Mapping[str, tuple[_Make, str]] = {
    "gemma3": (_gemma, ""),
    "embeddinggemma": (_embedding_gemma, ""),
    "qwen25vl": (qwen25vl, "qwen2"),
    "qwen3vl": (qwen3vl, "qwen2"),
    "qwen3vlmoe": (qwen3vl, "qwen2"),
    "qwen3next": (qwen3next, "qwen2"),
    "qwen35": (qwen35, "qwen35"),
    "qwen35moe": (qwen35, "qwen35"),
    "gptoss": (_gptoss, "gpt-4o"),
    "mistral3": (_mistral3, "tekken"),
    "llama4": (_llama4, "gpt-4o"),
    "olmo3": (_olmo3, "llama3"),
    "glm4moelite": (_glm, "llama3"),
    "glmocr": (_glm_ocr, "llama3"),
    "gemma3n": (gemma3n, "merges"),
    "gemma4": (gemma4, "merges"),
    "nemotron_h_moe": (_nemotron, "of nobody"),
}
