"""Experts that a checkpoint holds packed, in the orientations that makers and libraries write them in."""

from __future__ import annotations

import numpy as np
import pytest

from corral.convert.families import FAMILIES
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import constant

EXPERTS = "model.layers.0.mlp.experts."


@pytest.mark.parametrize("ending", ["", ".weight"])
@pytest.mark.parametrize(("hidden", "width"), [(8, 6), (8, 4), (8, 8)])  # neither matrix square, one, the other
def test_qwen3_vls_experts_are_turned_whichever_matrix_is_square(hidden: int, width: int, ending: str) -> None:
    numbers = np.random.default_rng(0)
    upright = {
        f"{EXPERTS}gate_up_proj{ending}": numbers.random((2, 2 * width, hidden), np.float32),
        f"{EXPERTS}down_proj{ending}": numbers.random((2, hidden, width), np.float32),
    }
    turned = {name: values.swapaxes(1, 2) for name, values in upright.items()}
    gather = FAMILIES["Qwen3VLMoeForConditionalGeneration"].gather
    for given in (upright, turned):
        weights = {name: constant(name, np.ascontiguousarray(values)) for name, values in given.items()}
        found = gather(weights, HubConfig({"hidden_size": hidden}))
        for name, values in upright.items():
            np.testing.assert_array_equal(found[name].read(), values)
