from __future__ import annotations

from collections import Counter

import pytest

from corral.create.mixture import DEFAULT_TYPES, ModelShape, choose_types, in_layer_order, may_quantize, parse_file_type
from corral.gguf.header import TensorInfo


def tensor(name: str, *shape: int, type_name: str = "F16") -> TensorInfo:
    return TensorInfo(name, type_name, shape, 0, 0, 0)


def llama(layers: int, width: int = 4096, *, tied: bool = False) -> list[TensorInfo]:
    tensors = [tensor("token_embd.weight", width, 32000), tensor("output_norm.weight", width, type_name="F32")]
    if not tied:
        tensors.append(tensor("output.weight", width, 32000))
    for layer in range(layers):
        parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
        tensors += [tensor(f"blk.{layer}.{part}.weight", width, width) for part in parts]
        tensors.append(tensor(f"blk.{layer}.attn_norm.weight", width, type_name="F32"))
    return tensors


def shape(layers: int, architecture: str = "llama", experts: int = 0, ratio: int = 1) -> ModelShape:
    return ModelShape(architecture, layers, experts, ratio)


def layers_of(types: dict[str, str], part: str, type_name: str) -> list[int]:
    return sorted(int(name.split(".")[1]) for name, kind in types.items() if part in name and kind == type_name)


@pytest.mark.parametrize(
    ("text", "name"),
    [("q4_K_M", "Q4_K_M"), ("Q4_K", "Q4_K_M"), ("q8_0", "Q8_0"), ("bf16", "BF16"), ("q5_k", "Q5_K_M")],
)
def test_file_types_are_read_in_any_case(text: str, name: str) -> None:
    assert parse_file_type(text) == name


@pytest.mark.parametrize("text", ["", "Q9_9", "IQ2_XXS", "Q2_K_S", "IQ3_XXS"])
def test_what_needs_an_importance_matrix_is_not_offered(text: str) -> None:
    assert parse_file_type(text) is None


def test_q4_k_m_gives_the_sensitive_layers_of_a_7b_more_bits() -> None:
    types = choose_types(shape(32), llama(32), "Q4_K_M")
    more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert layers_of(types, "attn_v", "Q6_K") == more
    assert layers_of(types, "ffn_down", "Q6_K") == more
    assert types["output.weight"] == "Q6_K"
    assert types["token_embd.weight"] == "Q4_K"
    assert types["blk.5.attn_norm.weight"] == "F32"
    assert Counter(types.values()) == {"Q4_K": 1 + 32 * 7 - 32, "Q6_K": 33, "F32": 33}


def test_q4_k_s_raises_the_first_layers_only() -> None:
    types = choose_types(shape(32), llama(32), "Q4_K_S")
    assert layers_of(types, "attn_v", "Q5_K") == [0, 1, 2, 3]
    assert layers_of(types, "ffn_down", "Q5_K") == [0, 1, 2, 3]


def test_a_tied_embedding_is_treated_as_the_output() -> None:
    assert choose_types(shape(2), llama(2, tied=True), "Q4_K_M")["token_embd.weight"] == "Q6_K"
    assert choose_types(shape(2), llama(2, tied=True), "Q8_0")["token_embd.weight"] == "Q8_0"


def test_rows_that_do_not_divide_fall_back() -> None:
    """SmolLM2-135M: rows of 576 do not divide by 256. The published Q4_K_M has exactly these types."""
    tensors = [tensor("token_embd.weight", 576, 49152), tensor("output_norm.weight", 576, type_name="F32")]
    for layer in range(30):
        prefix = f"blk.{layer}."
        tensors += [tensor(f"{prefix}{name}.weight", 576, 576) for name in ("attn_q", "attn_output")]
        tensors += [tensor(f"{prefix}{name}.weight", 576, 192) for name in ("attn_k", "attn_v")]
        tensors += [tensor(f"{prefix}{name}.weight", 576, 1536) for name in ("ffn_gate", "ffn_up")]
        tensors += [tensor(f"{prefix}ffn_down.weight", 1536, 576)]
        tensors += [tensor(f"{prefix}{name}_norm.weight", 576, type_name="F32") for name in ("attn", "ffn")]
    types = choose_types(ModelShape("llama", 30, 0, 3), tensors, "Q4_K_M")
    assert Counter(types.values()) == {"Q5_0": 166, "F32": 61, "Q4_K": 16, "Q8_0": 15, "Q6_K": 14}


def test_a_row_that_fits_no_block_stays_f16() -> None:
    types = choose_types(shape(1), [tensor("blk.0.attn_q.weight", 100, 64)], "Q4_K_M")
    assert types == {"blk.0.attn_q.weight": "F16"}


@pytest.mark.parametrize(
    "kept",
    [
        tensor("blk.0.attn_norm.weight", 64, 64),
        tensor("blk.0.ffn_gate_inp.weight", 64, 8),
        tensor("blk.0.attn_q.bias", 64, 64),
        tensor("position_embd.weight", 64, 64),
        tensor("token_types.weight", 64, 2),
        tensor("blk.0.ssm_conv1d.weight", 4, 64),
        tensor("v.blk.0.attn_q.weight", 64, 64),
        tensor("mm.0.weight", 64, 64),
        tensor("blk.0.attn_q.weight", 64),
        tensor("blk.0.attn_q.weight", 64, 1),
    ],
    ids=lambda kept: kept.name,
)
def test_sensitive_and_foreign_tensors_are_left_alone(kept: TensorInfo) -> None:
    assert not may_quantize(kept)
    assert choose_types(shape(1), [kept], "Q4_0") == {kept.name: "F16"}


def test_grouped_attention_and_70b_get_more_for_their_values() -> None:
    assert choose_types(shape(8, ratio=8), llama(8), "Q2_K")["blk.4.attn_v.weight"] == "Q4_K"
    assert choose_types(shape(8, ratio=1), llama(8), "Q2_K")["blk.4.attn_v.weight"] == "Q3_K"
    large = ModelShape("llama", 80, 0, 8, is_70b=True)
    assert choose_types(large, llama(80), "Q4_K_M")["blk.11.attn_v.weight"] == "Q5_K"


def test_eight_experts_keep_keys_and_values_at_eight_bits() -> None:
    types = choose_types(shape(4, experts=8), llama(4), "Q4_K_M")
    assert {types[f"blk.{layer}.attn_{part}.weight"] for layer in range(4) for part in "kv"} == {"Q8_0"}
    assert types["blk.1.attn_output.weight"] == "Q5_K"


def test_experts_are_counted_by_the_layer_in_their_name() -> None:
    tensors = [tensor(f"blk.{layer}.ffn_down_exps.weight", 256, 256, 64) for layer in range(16)]
    types = choose_types(shape(16, experts=64), tensors, "Q4_K_M")
    assert layers_of(types, "ffn_down", "Q6_K") == [0, 1, 4, 7, 10, 13, 14, 15]


@pytest.mark.parametrize(
    ("architecture", "name", "kind"),
    [
        ("gemma3n", "per_layer_token_embd.weight", "F16"),
        ("glm4", "output.weight", "F16"),
        ("deepseek2", "blk.0.attn_kv_a_mqa.weight", "Q8_0"),
        ("qwen35", "blk.3.nextn.eh_proj.weight", "Q8_0"),
    ],
)
def test_architectures_have_exceptions_for_the_four_bit_mixtures(architecture: str, name: str, kind: str) -> None:
    tensors = [tensor(name, 256, 256), tensor("blk.0.ffn_up.weight", 256, 256)]
    types = choose_types(shape(1, architecture), tensors, "Q4_K_M")
    assert types == {name: kind, "blk.0.ffn_up.weight": "Q4_K"}
    assert choose_types(shape(1, architecture), tensors, "Q5_K_S")[name] != "F16"


def test_floats_are_all_or_nothing() -> None:
    types = choose_types(shape(2), llama(2), "BF16")
    assert Counter(types.values()) == {"BF16": 16, "F32": 3}


@pytest.mark.parametrize("file_type", DEFAULT_TYPES)
@pytest.mark.parametrize("architecture", ["llama", "falcon"])
def test_every_file_type_chooses_a_type_for_every_tensor(file_type: str, architecture: str) -> None:
    tensors = llama(16)
    types = choose_types(shape(16, architecture), tensors, file_type)
    assert types.keys() == {info.name for info in tensors}
    assert types["blk.8.ffn_up.weight"] == DEFAULT_TYPES[file_type]


def test_layers_are_counted_in_number_order() -> None:
    names = [info.name for info in in_layer_order(tensor(f"blk.{n}.x.weight") for n in (10, 2, 1))]
    assert names == ["blk.1.x.weight", "blk.2.x.weight", "blk.10.x.weight"]
