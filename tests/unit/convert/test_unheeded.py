"""What a config asks for and the engine does not do is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.convert.test_left_out_keys import planned

from corral.errors import InvalidRequest


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
