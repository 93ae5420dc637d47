"""What a config asks for and the engine does not do is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.convert.test_left_out_keys import planned

from corral.convert.hubconfig import HubConfig
from corral.convert.unloadable import refuse_unloadable
from corral.errors import InvalidRequest

BASE = {"rope_type": "default", "rope_theta": 500_000.0}
LOCAL = {**BASE, "rope_theta": 10_000.0}


@pytest.mark.parametrize(
    ("family", "changes", "codes"),
    [
        ("qwen3-moe", {"norm_topk_prob": False}, ["expert_shares_changed"]),
        ("qwen3-moe", {"norm_topk_prob": True}, []),
        ("deepseek-v3", {"norm_topk_prob": False}, []),  # this one the engine heeds
        ("mistral", {"sliding_window": 8}, ["sliding_window_dropped"]),
        ("mistral", {"sliding_window": 4096}, []),  # wider than the context
        ("mistral", {"sliding_window": None}, []),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": False}, []),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True}, ["sliding_window_dropped"]),
        ("gpt-oss", {"sliding_window": 8}, []),
        ("llama4", {"no_rope_layers": [1, 0, 1, 0]}, ["rope_layers_changed"]),
        ("llama4", {"no_rope_layers": [], "no_rope_layer_interval": 2}, ["rope_layers_changed"]),
        ("llama4", {"no_rope_layers": []}, []),
        ("olmo3", {"rope_parameters": {"full_attention": BASE, "sliding_attention": BASE}}, []),
        (
            "olmo3",
            {"rope_parameters": {"full_attention": BASE, "sliding_attention": LOCAL}},
            ["local_rope_base_dropped"],
        ),
    ],
)
def test_a_setting_without_effect_is_a_notice(
    tmp_path: Path, family: str, changes: dict[str, Any], codes: list[str]
) -> None:
    assert [notice.code for notice in planned(tmp_path, family, **changes).notices] == codes


def test_llama4s_layers_with_experts_are_every_nth_or_refused(tmp_path: Path) -> None:
    assert planned(tmp_path, "llama4", moe_layers=[1, 3]).text.metadata["interleave_moe_layer_step"] == 2
    assert planned(tmp_path, "llama4", moe_layers=[]).text.metadata["interleave_moe_layer_step"] == 0
    with pytest.raises(InvalidRequest, match="moe_layers"):
        planned(tmp_path, "llama4", moe_layers=[0, 3])


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("qwen3", {"attention_bias": True}, "attention_bias is True, expected false"),
        ("deepseek-v3", {"attention_bias": True}, "attention_bias is True, expected false"),
        ("qwen3.5", {"attention_bias": True}, "attention_bias is True, expected false"),
        ("cohere", {"use_qk_norm": True}, "use_qk_norm is True, expected false"),
        ("llama4", {"use_qk_norm": False}, "use_qk_norm is False, expected true"),
        ("deepseek-v3", {"rope_interleave": False}, "rope_interleave is False, expected true"),
    ],
)
def test_a_setting_that_the_engine_cannot_have_is_refused_by_name(
    tmp_path: Path, family: str, changes: dict[str, Any], message: str
) -> None:
    assert planned(tmp_path, family).text.outputs
    with pytest.raises(InvalidRequest, match=message):
        planned(tmp_path, family, **changes)


def test_norms_of_queries_and_keys_go_by_the_models_size_as_in_the_engine() -> None:
    plus = {"num_hidden_layers": 64}
    refuse_unloadable(HubConfig({**plus, "use_qk_norm": True}), "command-r")
    with pytest.raises(InvalidRequest, match="use_qk_norm"):
        refuse_unloadable(HubConfig(plus), "command-r")
    maverick = {"num_local_experts": 128}
    refuse_unloadable(HubConfig({**maverick, "use_qk_norm": False}), "llama4")
    with pytest.raises(InvalidRequest, match="use_qk_norm"):
        refuse_unloadable(HubConfig({**maverick, "use_qk_norm": True}), "llama4")


def test_biases_stay_where_the_engine_has_a_place_for_them(tmp_path: Path) -> None:
    assert planned(tmp_path, "llama", attention_bias=True).text.outputs
