"""Decoders that embed: how they pool, and what ends their texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fakes.checkpoints import weights
from tests.fakes.embedders import KINDS, LAST, PAD, last_state, write_embedder
from tests.unit.convert.test_convert_model import REFERENCE
from tests.unit.convert.test_left_out_keys import planned

from corral.convert import plan_conversion
from corral.errors import InvalidRequest
from corral.gguf import read_header

QWEN3 = REFERENCE["qwen3"]


@pytest.mark.parametrize(
    ("pooling", "number"),
    [
        (LAST, 3),
        ({**LAST, "pooling_mode_lasttoken": False, "pooling_mode_cls_token": True}, 2),
        ({**LAST, "pooling_mode_lasttoken": False, "pooling_mode_mean_tokens": True}, 1),
        ({"pooling_mode": "lasttoken"}, 3),
    ],
)
def test_a_decoder_that_embeds_pools_as_its_modules_say(tmp_path: Path, pooling: dict[str, Any], number: int) -> None:
    plan = plan_conversion(write_embedder(tmp_path / "m", QWEN3, pooling))
    plan.write(tmp_path / "m.gguf", tmp_path / "none")
    header = read_header(tmp_path / "m.gguf")
    assert header.pooling_type == header.get("qwen3.pooling_type") == number
    assert header.get("qwen3.attention.causal") is None  # its tokens look backwards as a writer's do
    assert header.get("tokenizer.ggml.add_eos_token") is True
    assert (header.get("tokenizer.ggml.eos_token_id"), header.get("tokenizer.ggml.eot_token_id")) == (PAD, PAD - 1)


def test_a_decoder_that_writes_has_neither(tmp_path: Path) -> None:
    plan = planned(tmp_path, "qwen3")
    assert "pooling_type" not in plan.text.metadata
    assert plan.text.vocabulary is not None
    assert "eos" not in plan.text.vocabulary.add


def test_modules_that_the_engine_has_not_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="Dense"):
        plan_conversion(write_embedder(tmp_path / "a", QWEN3, kinds=(*KINDS, ("3_Dense", "Dense"))))
    weighted = {**LAST, "pooling_mode_lasttoken": False, "pooling_mode_weightedmean_tokens": True}
    with pytest.raises(InvalidRequest, match="1_Pooling"):
        plan_conversion(write_embedder(tmp_path / "b", QWEN3, weighted))


def test_the_states_that_vectors_are_held_against_are_transformers() -> None:
    head = weights("lm_head.weight", QWEN3["shapes"]["lm_head.weight"])
    logits = head @ last_state(QWEN3, QWEN3["prompt"])
    found = logits - np.log(np.exp(logits).sum())
    assert float(np.abs(found - np.array(QWEN3["logprobs"])).max()) < 1e-3
