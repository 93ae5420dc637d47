"""Each text family on made-up headers: what is set, renamed, left out; and what needs nothing stays as it is."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.fakes.ggufs import make_gguf

from corral.errors import UntranslatableModel
from corral.gguf import GGUFArray, GGUFHeader, read_header
from corral.gguf.encoding import encode_preamble, encode_scalar, encode_text
from corral.gguf.types import ValueType
from corral.translate import recognize, write

SPM = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a", "b", "c"]}
EMBEDDING = {"token_embd.weight": [2, 8]}
Shapes = Mapping[str, Sequence[int]]


def plain(header: GGUFHeader) -> dict[str, Any]:
    """The metadata, arrays read."""
    return {k: v.read() if isinstance(v, GGUFArray) else v for k, v in header.metadata.items()}


@dataclasses.dataclass
class Made:
    """A file before and after."""

    before: GGUFHeader
    after: GGUFHeader

    @property
    def keys(self) -> dict[str, Any]:
        """The new file's metadata."""
        return plain(self.after)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The new file's tensors, in numpy's order of dimensions as make_gguf takes them."""
        return {tensor.name: tensor.shape[::-1] for tensor in self.after.tensors}


def translate(folder: Path, arch: str, keys: Mapping[str, Any], shapes: Shapes, family: str = "") -> Made:
    path = make_gguf(folder / "before.gguf", arch, keys, shapes)
    layout = recognize(read_header(path))
    assert layout is not None
    assert layout.family == (family or arch)
    plan = layout.text_plan()
    assert plan is not None
    with (folder / "after.gguf").open("wb") as file:
        write(path, plan, file)
    assert (folder / "after.gguf").stat().st_size == plan.size_bytes
    made = Made(read_header(path), read_header(folder / "after.gguf"))
    assert made.after.architecture == plan.architecture
    assert recognize(made.after) is None  # a translated file needs nothing more
    return made


def needs_nothing(folder: Path, arch: str, keys: Mapping[str, Any], shapes: Shapes) -> bool:
    return recognize(read_header(make_gguf(folder / "m.gguf", arch, keys, shapes))) is None


def test_gemma3_gets_the_engines_names_and_what_configurations_left_to_defaults(tmp_path: Path) -> None:
    keys = {"gemma3.rope.global.freq_base": 2.0, "gemma3.rope.local.freq_base": 3.0, "gemma3.context_length": 32768}
    made = translate(tmp_path, "gemma3", keys | SPM, EMBEDDING)
    assert made.keys["gemma3.rope.freq_base"] == 2.0
    assert made.keys["gemma3.rope.freq_base_swa"] == 3.0
    assert made.keys["gemma3.attention.layer_norm_rms_epsilon"] == 1e-6
    assert made.keys["tokenizer.ggml.tokens"] == ["a", "b"]
    assert made.keys["tokenizer.ggml.add_space_prefix"] is False
    assert "gemma3.rope.scaling.type" not in made.keys


def test_a_large_gemma3_is_scaled_and_loses_its_eyes(tmp_path: Path) -> None:
    keys = {"gemma3.context_length": 131072, "gemma3.vision.block_count": 2, "gemma3.mm.tokens_per_image": 4}
    made = translate(tmp_path, "gemma3", keys | SPM, EMBEDDING | {"v.blk.0.x": [2], "mm.norm": [2], "vx": [2]})
    assert (made.keys["gemma3.rope.scaling.type"], made.keys["gemma3.rope.scaling.factor"]) == ("linear", 8.0)
    assert made.keys["gemma3.rope.freq_base"] == 1_000_000.0
    assert not any(key.startswith(("gemma3.vision", "gemma3.mm")) for key in made.keys)
    assert set(made.shapes) == {"token_embd.weight", "vx"}


def test_gemma3_as_llama_cpp_writes_it_needs_nothing(tmp_path: Path) -> None:
    keys = SPM | {"gemma3.attention.layer_norm_rms_epsilon": 1e-6, "tokenizer.ggml.add_space_prefix": False}
    assert needs_nothing(tmp_path, "gemma3", keys, {"token_embd.weight": [3, 8]})


def test_embeddinggemma_becomes_an_embedding_model(tmp_path: Path) -> None:
    shapes = {"token_embd.weight": [3, 8], "dense.0.weight": [24, 8], "dense.1.weight": [8, 24], "norm.weight": [8]}
    made = translate(tmp_path, "gemma3", {"gemma3.block_count": 6} | SPM, shapes, "embeddinggemma")
    assert made.after.architecture == "gemma-embedding"
    assert made.keys["gemma-embedding.block_count"] == 6
    sizes = [made.keys[f"gemma-embedding.dense_{n}_feat_{way}"] for n in (2, 3) for way in ("in", "out")]
    assert sizes == [8, 24, 24, 8]
    assert set(made.shapes) == {"token_embd.weight", "dense_2.weight", "dense_3.weight", "output_norm.weight"}


def test_gemma3n_has_one_vocabulary_and_its_types_of_tokens(tmp_path: Path) -> None:
    tokens = ["<0x41>", "<unused7>", "x", "<image>"]
    keys = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [4, 3, 1, 3],
        "tokenizer.ggml.scores": [0.0, 1.0, 2.0, 3.0],
        "gemma3n.head_dim": 32,
        "gemma3n.rope.freq_base_local": 10000.0,
    }
    made = translate(tmp_path, "gemma3n", keys, {"token_embd.weight": [4, 8], "per_layer_token_embd.weight": [3, 16]})
    assert made.shapes["token_embd.weight"] == (3, 8)
    assert made.keys["tokenizer.ggml.tokens"] == tokens[:3]
    assert made.keys["tokenizer.ggml.token_type"] == [6, 1, 1]
    assert made.keys["tokenizer.ggml.scores"] == [0.0, 1.0, 2.0]
    assert made.keys["tokenizer.ggml.model"] == "llama"
    assert made.keys["gemma3n.attention.key_length"] == made.keys["gemma3n.attention.value_length"] == 32
    assert made.keys["gemma3n.rope.freq_base_swa"] == 10000.0


def test_gemma4_reads_as_bpe_and_its_experts_are_joined(tmp_path: Path) -> None:
    experts = {"ffn_gate_exps.weight": [2, 3, 4], "ffn_up_exps.weight": [2, 3, 4]}
    shapes = {f"blk.0.{name}": shape for name, shape in (experts | {"ffn_gate_inp.per_expert_scale": [2]}).items()}
    shapes |= {"a.blk.0.x": [2], "v.y": [2], "mm.z": [2], "model.vision_tower.std_bias": [2]}
    made = translate(tmp_path, "gemma4", {"tokenizer.ggml.model": "llama", "gemma4.audio.block_count": 1}, shapes)
    assert made.keys["tokenizer.ggml.model"] == "gemma4"
    assert "gemma4.audio.block_count" not in made.keys
    assert made.shapes == {"blk.0.ffn_gate_up_exps.weight": (2, 6, 4), "blk.0.ffn_down_exps.scale": (2,)}


def test_gemma4_experts_with_scales_of_their_own_stay_apart(tmp_path: Path) -> None:
    shapes = {"blk.0.ffn_gate_exps.weight": [2, 3, 4], "blk.0.ffn_up_exps.weight": [2, 3, 4]}
    shapes |= {"blk.0.ffn_up_exps.scale": [2]}
    made = translate(tmp_path, "gemma4", {"tokenizer.ggml.model": "llama"}, shapes)
    assert set(made.shapes) == set(shapes)


@pytest.mark.parametrize("arch", ["qwen35", "qwen35moe"])
def test_qwen35_gets_four_sections_and_one_count_of_heads(tmp_path: Path, arch: str) -> None:
    keys = {f"{arch}.rope.dimension_sections": [3, 3, 2], f"{arch}.attention.head_count_kv": [0, 0, 0, 4]}
    made = translate(tmp_path, arch, keys, {"blk.0.ssm_dt": [4], "v.patch": [2]})
    assert made.keys[f"{arch}.rope.dimension_sections"] == [3, 3, 2, 0]
    assert made.keys[f"{arch}.attention.head_count_kv"] == 4
    assert made.shapes == {"blk.0.ssm_dt.bias": (4,)}


def mtp_shapes(experts: Sequence[int]) -> dict[str, Sequence[int]]:
    shapes: dict[str, Sequence[int]] = {"blk.0.attn_norm.weight": [4], "blk.1.attn_norm.weight": [4]}
    shapes |= {"mtp.fc.weight": [4, 8], "mtp.norm.weight": [4], "mtp.pre_fc_norm_hidden.weight": [4]}
    shapes |= {"mtp.layers.0.attn_norm.weight": [4], "mtp.layers.0.attn_q.weight": [4, 4], "mtp.other": [4]}
    for number in experts:
        shapes |= {f"mtp.layers.0.mlp.experts.{number}.{kind}_proj.weight": [2, 4] for kind in ("gate", "up")}
        shapes |= {f"mtp.layers.0.mlp.experts.{number}.down_proj.weight": [4, 2]}
    return shapes


def test_mtp_layers_become_a_block_of_their_own(tmp_path: Path) -> None:
    made = translate(tmp_path, "qwen35moe", {"qwen35moe.block_count": 2}, mtp_shapes([1, 0, 2]))
    assert made.keys["qwen35moe.block_count"] == 3
    assert made.keys["qwen35moe.nextn_predict_layers"] == 1
    moved = {name.removeprefix("blk.2."): shape for name, shape in made.shapes.items() if name.startswith("blk.2.")}
    assert moved == {
        "nextn.eh_proj.weight": (4, 8),
        "nextn.shared_head_norm.weight": (4,),
        "nextn.hnorm.weight": (4,),
        "attn_norm.weight": (4,),
        "attn_q.weight": (4, 4),
        "ffn_gate_exps.weight": (3, 2, 4),
        "ffn_up_exps.weight": (3, 2, 4),
        "ffn_down_exps.weight": (3, 4, 2),
    }
    values = {tensor.name: tensor.data for tensor in gguf.GGUFReader(made.after.path).tensors}
    for name, expected in {"attn_norm": 1, "nextn.hnorm": 1, "nextn.shared_head_norm": 1, "attn_q": 0}.items():
        assert (values[f"blk.2.{name}.weight"] == expected).all(), name  # norms lack the 1 that the engine expects
    assert (values["blk.0.attn_norm.weight"] == 0).all()


def test_a_missing_mtp_expert_is_named(tmp_path: Path) -> None:
    with pytest.raises(UntranslatableModel, match="expert 1 of 2 is missing"):
        translate(tmp_path, "qwen35moe", {}, mtp_shapes([0, 2]))


def test_several_mtp_layers_are_left_out(tmp_path: Path) -> None:
    shapes = mtp_shapes([]) | {"mtp.layers.1.attn_norm.weight": [4]}
    made = translate(tmp_path, "qwen35", {"qwen35.block_count": 2}, shapes)
    assert made.keys["qwen35.block_count"] == 2
    assert set(made.shapes) == {"blk.0.attn_norm.weight", "blk.1.attn_norm.weight"}


def test_qwen3next(tmp_path: Path) -> None:
    keys = {"qwen3next.attention.head_count_kv": [0, 0, 0, 2]}
    made = translate(tmp_path, "qwen3next", keys, {"blk.0.ssm_dt": [4]})
    assert made.keys["qwen3next.attention.head_count_kv"] == 2
    assert set(made.shapes) == {"blk.0.ssm_dt.bias"}
    assert needs_nothing(tmp_path, "qwen3next", {}, {"blk.0.ssm_dt.bias": [4]})


def test_qwen25vl_becomes_qwen2vl(tmp_path: Path) -> None:
    made = translate(tmp_path, "qwen25vl", {"qwen25vl.rope.mrope_section": [16, 24, 24]}, {"v.x": [2]})
    assert made.after.architecture == "qwen2vl"
    assert made.keys["qwen2vl.rope.dimension_sections"] == [16, 24, 24, 0]


def test_qwen25vl_without_sections_says_which_key_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UntranslatableModel, match=r"qwen25vl\.rope\.mrope_section"):
        translate(tmp_path, "qwen25vl", {}, {})


def test_qwen3vlmoe_says_what_its_files_leave_out(tmp_path: Path) -> None:
    keys = {"qwen3vlmoe.vision.deepstack_visual_indexes": [8, 16, 24]}
    made = translate(tmp_path, "qwen3vlmoe", keys, {"blk.0.ffn_gate_exps.weight": [2, 3, 4], "v.x": [2]})
    assert made.keys["qwen3vlmoe.rope.dimension_sections"] == [24, 20, 20, 0]
    assert made.keys["qwen3vlmoe.n_deepstack_layers"] == 3
    assert made.keys["qwen3vlmoe.expert_feed_forward_length"] == 3
    created = {"qwen3vl.rope.dimension_sections": [24, 20, 20, 0], "qwen3vl.n_deepstack_layers": 3}
    assert needs_nothing(tmp_path, "qwen3vl", created, {})


def test_mistral3_scales_under_the_engines_names(tmp_path: Path) -> None:
    keys = {"mistral3.rope.scaling.beta_fast": 32.0, "mistral3.rope.scaling.beta_slow": 1.0}
    keys |= {"mistral3.rope.scaling.mscale_all_dim": 1.0, "mistral3.rope.scaling_beta": 0.1}
    made = translate(tmp_path, "mistral3", keys | {"tokenizer.ggml.pre": "default"}, {"v.x": [2]})
    scaling = {key: made.keys[f"mistral3.rope.scaling.yarn_{key}"] for key in ("beta_fast", "beta_slow")}
    assert scaling == {"beta_fast": 32.0, "beta_slow": 1.0}
    assert made.keys["mistral3.rope.scaling.yarn_log_multiplier"] == 1.0
    assert made.keys["mistral3.attention.temperature_scale"] == 0.1
    assert made.keys["tokenizer.ggml.pre"] == "tekken"
    assert made.shapes == {}


def test_mistral3_without_scaling_names_no_type_of_it(tmp_path: Path) -> None:
    values = {"general.architecture": "mistral3", "mistral3.rope.scaling.type": "", "tokenizer.ggml.pre": "tekken"}
    pairs = (encode_text(key) + encode_scalar(ValueType.STRING, value) for key, value in values.items())
    path = tmp_path / "m.gguf"
    path.write_bytes(encode_preamble(0, len(values)) + b"".join(pairs))  # the gguf package writes no empty texts
    layout = recognize(read_header(path))
    assert layout is not None
    plan = layout.text_plan()
    assert plan is not None
    assert [key for key, _ in plan.metadata] == ["general.architecture", "tokenizer.ggml.pre"]


def test_llama4_has_a_pre_tokenizer_of_its_own(tmp_path: Path) -> None:
    made = translate(
        tmp_path, "llama4", {"tokenizer.ggml.pre": "default", "llama4.vision.block_count": 1}, {"v.x": [2]}
    )
    assert made.keys["tokenizer.ggml.pre"] == "llama4"
    assert needs_nothing(tmp_path, "llama4", {"tokenizer.ggml.pre": "llama4"}, {})


def test_an_old_llama3_splits_and_ends_as_llama3_does(tmp_path: Path) -> None:
    tokens = [f"t{n}" for n in range(128_009)] + ["<|eot_id|>"]
    keys = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.eos_token_id": 128_001}
    made = translate(tmp_path, "llama", keys, {}, "llama3")
    assert made.keys["tokenizer.ggml.pre"] == "llama-bpe"
    assert made.keys["tokenizer.ggml.eos_token_id"] == made.keys["tokenizer.ggml.eot_token_id"] == 128_009
    assert needs_nothing(tmp_path, "llama", keys | {"tokenizer.ggml.pre": "llama-bpe"}, {})
    assert needs_nothing(tmp_path, "llama", keys | {"tokenizer.ggml.tokens": [*tokens[:-1], "x"]}, {})
    assert needs_nothing(tmp_path, "llama", keys | {"tokenizer.ggml.model": "llama"}, {})


def test_glm_flash_is_told_in_absorbed_sizes(tmp_path: Path) -> None:
    keys = {"attention.key_length": 256, "attention.kv_lora_rank": 512, "rope.dimension_count": 64}
    keys |= {"attention.head_count_kv": 20, "attention.key_length_mla": 576}
    full = {f"glm4moelite.{key}": value for key, value in keys.items()}
    made = translate(tmp_path, "glm4moelite", full | {"tokenizer.ggml.eos_token_ids": [1, 2, 3]}, {})
    attention = {
        key: made.keys[f"deepseek2.attention.{key}"] for key in ("head_count_kv", "key_length", "value_length")
    }
    assert attention == {"head_count_kv": 1, "key_length": 576, "value_length": 512}
    assert made.keys["deepseek2.attention.key_length_mla"] == made.keys["deepseek2.attention.value_length_mla"] == 256
    assert made.keys["deepseek2.expert_group_count"] == made.keys["deepseek2.expert_group_used_count"] == 1
    assert (made.keys["tokenizer.ggml.eot_token_id"], made.keys["tokenizer.ggml.eom_token_id"]) == (2, 3)


def test_glm_flash_without_its_sizes_says_which_key_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UntranslatableModel, match=r"kv_lora_rank"):
        translate(tmp_path, "glm4moelite", {"glm4moelite.attention.key_length": 256}, {})


def test_glm_ocr_becomes_glm4_with_one_matrix_for_gate_and_up(tmp_path: Path) -> None:
    keys = {"glmocr.rope.mrope_section": [16, 24, 24], "glmocr.attention.key_length": 128}
    keys |= {"tokenizer.ggml.eos_token_ids": [5, 6]}
    shapes = {"blk.0.ffn_gate.weight": [3, 4], "blk.0.ffn_up.weight": [3, 4], "blk.0.attn_out.weight": [4, 4]}
    shapes |= {"blk.0.post_attn_norm.weight": [4], "blk.0.post_ffn_norm.weight": [4], "v.x": [2]}
    made = translate(tmp_path, "glmocr", keys, shapes)
    assert made.after.architecture == "glm4"
    assert made.keys["glm4.rope.dimension_sections"] == [16, 24, 24, 0]
    assert made.keys["glm4.rope.dimension_count"] == 128
    assert made.keys["tokenizer.ggml.pre"] == "chatglm-bpe"
    assert made.keys["tokenizer.ggml.eot_token_id"] == 6
    assert made.shapes == {
        "blk.0.ffn_up.weight": (6, 4),
        "blk.0.attn_output.weight": (4, 4),
        "blk.0.post_attention_norm.weight": (4,),
        "blk.0.post_ffw_norm.weight": (4,),
    }


def test_deepseek_ocr_counts_its_experts_by_their_shapes(tmp_path: Path) -> None:
    shapes = {"blk.1.ffn_down_exps.weight": [4, 8, 3], "blk.1.ffn_down_shexp.weight": [8, 6]}
    shapes |= {"s.blk.0.x": [2], "v.y": [2], "mm.z": [2]}
    made = translate(tmp_path, "deepseekocr", {"deepseekocr.sam.block_count": 12}, shapes)
    assert made.after.architecture == "deepseek2-ocr"
    assert made.keys["deepseek2-ocr.expert_feed_forward_length"] == 3
    assert made.keys["deepseek2-ocr.expert_shared_count"] == 2
    assert not any(".sam." in key for key in made.keys)
    assert set(made.shapes) == {"blk.1.ffn_down_exps.weight", "blk.1.ffn_down_shexp.weight"}


def test_olmo3_becomes_olmo2_whose_yarn_is_applied_once(tmp_path: Path) -> None:
    made = translate(tmp_path, "olmo3", {"olmo3.rope.scaling.attn_factor": 1.2, "olmo3.block_count": 4}, {})
    assert made.keys["olmo2.rope.scaling.yarn_attn_factor"] == 1.2
    assert made.keys["olmo2.block_count"] == 4
    assert not any(key.endswith(".attn_factor") for key in made.keys)


def test_nemotron_super_has_latent_experts_and_no_mtp(tmp_path: Path) -> None:
    shapes = {"blk.1.ffn_latent_in.weight": [5, 8], "blk.1.ffn_latent_out.weight": [8, 5], "mtp.layers.0.x": [2]}
    made = translate(tmp_path, "nemotron_h_moe", {}, shapes)
    assert made.keys["nemotron_h_moe.moe_latent_size"] == 5
    assert made.shapes == {"blk.1.ffn_latent_down.weight": (5, 8), "blk.1.ffn_latent_up.weight": (8, 5)}
    assert needs_nothing(tmp_path, "nemotron_h_moe", {}, {"blk.1.ffn_latent_up.weight": [8, 5]})


@pytest.mark.parametrize(("experts", "arch"), [(4, "nemotron_h_moe"), (0, "nemotron_h")])
def test_the_text_of_nemotron_omni(tmp_path: Path, experts: int, arch: str) -> None:
    keys = {"expert_count": experts, "vision.block_count": 2, "audio.block_count": 1, "block_count": 3}
    full = {f"nemotron_h_omni.{key}": value for key, value in keys.items()}
    made = translate(tmp_path, "nemotron_h_omni", full, {"v.x": [2], "a.x": [2], "mm.x": [2], "output.weight": [4, 4]})
    assert made.after.architecture == arch
    assert made.keys[f"{arch}.block_count"] == 3
    assert not any("vision" in key or "audio" in key for key in made.keys)
    assert set(made.shapes) == {"output.weight"}


def test_lfm2_names_its_last_norm_and_counts_its_width_by_its_shape(tmp_path: Path) -> None:
    shapes = {"output_norm.weight": [4], "blk.0.ffn_gate.weight": [6, 4]}
    made = translate(tmp_path, "lfm2", {"lfm2.feed_forward_length": 12288, "tokenizer.ggml.pre": "x"}, shapes)
    assert made.keys["lfm2.feed_forward_length"] == 6
    assert made.keys["tokenizer.ggml.pre"] == "lfm2"
    assert set(made.shapes) == {"token_embd_norm.weight", "blk.0.ffn_gate.weight"}
    assert needs_nothing(tmp_path, "lfm2", {}, {"token_embd_norm.weight": [4]})


def test_early_laguna_files(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"laguna.rope.swa.dimension_count": 64, "laguna.rope.swa.freq_base": 10000.0}
    keys |= {"laguna.rope.scaling.attn_factor": 1.3, "tokenizer.ggml.eos_token_ids": [2, 3]}
    keys |= {"tokenizer.ggml.token_type": [1, 1, 3, 4]}
    made = translate(tmp_path, "laguna", keys, {"blk.0.attn_g.weight": [2, 4]})
    assert made.keys["tokenizer.ggml.eot_token_id"] == 3
    assert made.keys["tokenizer.ggml.token_type"] == [1, 1, 3, 3]
    assert made.keys["laguna.rope.dimension_count_swa"] == 64
    assert made.keys["laguna.rope.freq_base_swa"] == 10000.0
    assert made.keys["laguna.rope.scaling.yarn_attn_factor"] == 1.3
    assert set(made.shapes) == {"blk.0.attn_gate.weight"}


def test_a_character_map_becomes_bytes(tmp_path: Path) -> None:
    data = bytes(range(256))
    text = base64.b64encode(data).decode()
    keys = {"tokenizer.ggml.model": "t5", "tokenizer.ggml.precompiled_charsmap": list(text)}
    made = translate(tmp_path, "bert", keys, {})
    array = made.after.metadata["tokenizer.ggml.precompiled_charsmap"]
    assert isinstance(array, GGUFArray)
    assert (array.type_name, bytes(array.read())) == ("uint8", data)


@pytest.mark.parametrize("characters", [["ab"], ["!"], ["A"], ["="]])
def test_a_character_map_that_is_none_is_named(tmp_path: Path, characters: list[str]) -> None:
    keys = {"tokenizer.ggml.model": "t5", "tokenizer.ggml.precompiled_charsmap": characters}
    with pytest.raises(UntranslatableModel, match="precompiled_charsmap"):
        translate(tmp_path, "bert", keys, {})


def test_nobody_knows_an_unknown_architecture(tmp_path: Path) -> None:
    assert needs_nothing(tmp_path, "mllama", {"mllama.vision.block_count": 1}, {"v.x": [2]})


def test_kept_metadata_is_copied_byte_for_byte(tmp_path: Path) -> None:
    keys = {"general.name": "ü", "olmo3.x": [1.5, 2.5], "olmo3.flags": [True, False], "olmo3.words": ["", "ab"]}
    made = translate(tmp_path, "olmo3", keys, {"blk.0.x": [3, 5]})
    expected = {key.replace("olmo3", "olmo2"): value for key, value in plain(made.before).items()}
    assert made.keys == expected | {"general.architecture": "olmo2"}
    assert np.array_equal(gguf.GGUFReader(made.after.path).tensors[0].data, np.zeros((3, 5)))
