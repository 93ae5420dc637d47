"""Keys that a config leaves out, output matrices that are copies or not, stretched positions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes.checkpoints import write_checkpoint
from tests.unit.convert.test_convert_model import REFERENCE

from corral.convert import plan_conversion
from corral.convert.families.yarn import for_latent_attention, stretched, with_log_multiplier
from corral.convert.family import Metadata
from corral.convert.hubconfig import HubConfig
from corral.convert.model import Conversion
from corral.errors import InvalidRequest

HEAD = "lm_head.weight"


def planned(folder: Path, family: str, left_out: tuple[str, ...] = (), **changes: Any) -> Conversion:
    config = {**REFERENCE[family]["config"], **changes}
    kept = {key: value for key, value in config.items() if key not in left_out}
    return plan_conversion(write_checkpoint(folder / "m", kept, REFERENCE[family]["shapes"]))


@pytest.mark.parametrize(
    ("family", "left_out", "expected"),
    [
        ("qwen3", ("head_dim",), {"attention.key_length": 32}),
        ("qwen3-next", ("head_dim", "num_key_value_heads"), {"attention.key_length": 32, "attention.head_count_kv": 2}),
        ("llama4", ("num_key_value_heads", "rms_norm_eps"), {"attention.layer_norm_rms_epsilon": 1e-5}),
        ("mixtral", ("rope_parameters", "rms_norm_eps"), {"rope.freq_base": 1e6}),
        ("ministral3", ("rope_parameters",), {"rope.scaling.factor": 16.0, "attention.temperature_scale": 0.1}),
        ("gpt-oss", ("rope_parameters",), {"rope.scaling.factor": 32.0, "rope.freq_base": 150_000.0}),
        ("lfm2", ("norm_eps", "conv_L_cache"), {"shortconv.l_cache": 3, "attention.layer_norm_rms_epsilon": 1e-5}),
        ("glm4-moe-lite", ("routed_scaling_factor", "n_shared_experts"), {"expert_weights_scale": 1.8}),
    ],
)
def test_what_a_config_leaves_out_is_the_classes_or_in_the_shapes(
    tmp_path: Path, family: str, left_out: tuple[str, ...], expected: Metadata
) -> None:
    metadata = planned(tmp_path, family, left_out).text.metadata
    assert {key: metadata[key] for key in expected} == expected


def test_a_key_that_is_null_stays_null(tmp_path: Path) -> None:
    assert "attention.sliding_window" not in planned(tmp_path, "gemma2", sliding_window=None).text.metadata


def output_of(tmp_path: Path, family: str, *, is_copy: bool, **changes: Any) -> set[str]:
    from safetensors.numpy import load_file, save_file

    reference = REFERENCE[family]
    files = write_checkpoint(tmp_path / "m", {**reference["config"], **changes}, reference["shapes"])
    tensors = load_file(files["model.safetensors"])
    embedding = next(values for name, values in tensors.items() if name.endswith("embed_tokens.weight"))
    other = np.roll(embedding, 1, axis=0)
    save_file({**tensors, HEAD: embedding.copy() if is_copy else other}, files["model.safetensors"])
    return {output.name for output in plan_conversion(files).text.outputs}


def test_a_copy_of_the_embedding_is_not_written_where_the_engine_needs_none(tmp_path: Path) -> None:
    assert "output.weight" not in output_of(tmp_path, "llama", is_copy=True, tie_word_embeddings=False)
    assert "output.weight" in output_of(tmp_path, "olmo2", is_copy=True)


def test_a_matrix_of_its_own_is_written_though_the_config_calls_it_tied(tmp_path: Path) -> None:
    assert "output.weight" in output_of(tmp_path, "llama", is_copy=False, tie_word_embeddings=True)


def test_what_a_quantizer_adds_to_gemma_is_left_out(tmp_path: Path) -> None:
    assert "output.weight" not in output_of(tmp_path, "gemma3", is_copy=False, tie_word_embeddings=True)
    assert "output.weight" in output_of(tmp_path, "gemma3", is_copy=False, tie_word_embeddings=False)


def test_an_output_matrix_that_the_engine_cannot_have_is_refused_by_name(tmp_path: Path) -> None:
    assert "output.weight" not in output_of(tmp_path, "cohere", is_copy=False, tie_word_embeddings=True)
    with pytest.raises(InvalidRequest, match="lm_head"):
        output_of(tmp_path, "cohere", is_copy=False, tie_word_embeddings=False)


YARN = {"rope_type": "yarn", "factor": 4.0}
GAIN = 1 + 0.1 * math.log(4)


def test_the_factor_of_rotated_entries_is_what_the_engines_own_lacks() -> None:
    factor = "rope.scaling.attn_factor"
    assert factor not in stretched(HubConfig(YARN))
    assert stretched(HubConfig({**YARN, "attention_factor": 1.3}))[factor] == pytest.approx(1.3 / GAIN)
    both = stretched(HubConfig({**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}))
    assert both[factor] == pytest.approx(1 / GAIN)
    usual = with_log_multiplier(HubConfig({**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}))
    assert usual["rope.scaling.yarn_log_multiplier"] == 1.0
    assert factor not in usual


def test_factors_that_no_float_can_hold_are_refused_by_name(tmp_path: Path) -> None:
    tiny = {**YARN, "attention_factor": 1e-38, "mscale": 1.0, "mscale_all_dim": 1e5}
    with pytest.raises(InvalidRequest, match="yarn_log_multiplier"):
        planned(tmp_path, "deepseek-v3", rope_parameters=tiny)


def test_latent_attention_scales_scores_by_its_own_key_only() -> None:
    usual = for_latent_attention(HubConfig({**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}))
    assert usual["rope.scaling.yarn_log_multiplier"] == pytest.approx(0.1)
    assert "rope.scaling.attn_factor" not in usual
    plain = for_latent_attention(HubConfig(YARN))
    assert plain["rope.scaling.yarn_log_multiplier"] == pytest.approx(0.1 * (1 / GAIN - 1) / (0.1 * math.log(4)))
    assert plain["rope.scaling.attn_factor"] == pytest.approx(GAIN)
