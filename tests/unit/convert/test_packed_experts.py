"""Experts that a checkpoint holds packed, in the orientations that makers and libraries write them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.fakes.checkpoints import write_checkpoint
from tests.unit.convert.test_convert_model import REFERENCE

from corral.convert import convert_directory
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


@pytest.mark.parametrize(
    ("family", "layer", "parts"),
    [
        ("mixtral", "model.layers.{}.block_sparse_moe.", {"w1": "gate", "w3": "up", "w2": "down"}),
        ("qwen3-moe", "model.layers.{}.mlp.", {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}),
        ("nemotron-h-moe", "backbone.layers.{}.mixer.", {"up_proj": "up", "down_proj": "down"}),
    ],
)
def test_experts_packed_as_transformers_5_has_them_give_the_same_file(
    tmp_path: Path, family: str, layer: str, parts: dict[str, str]
) -> None:
    from safetensors.numpy import load_file, save_file

    reference = REFERENCE[family]
    files = write_checkpoint(tmp_path / "m", reference["config"], reference["shapes"])
    apart = convert_directory(files, tmp_path / "apart.gguf").path.read_bytes()
    tensors = load_file(files["model.safetensors"])
    for number in range(4):
        old, new = layer.format(number), layer.format(number).replace("block_sparse_moe", "mlp")
        if f"{old}experts.0.{next(iter(parts))}.weight" not in tensors:
            continue
        stacks = {
            word: np.stack([tensors.pop(f"{old}experts.{expert}.{part}.weight") for expert in range(4)])
            for part, word in parts.items()
        }
        if "gate" in stacks:
            stacks = {"gate_up": np.concatenate([stacks["gate"], stacks["up"]], axis=1), "down": stacks["down"]}
        tensors |= {f"{new}experts.{word}_proj": values for word, values in stacks.items()}
        tensors[f"{new}gate.weight"] = tensors.pop(f"{old}gate.weight")
    save_file(tensors, files["model.safetensors"])
    assert convert_directory(files, tmp_path / "packed.gguf").path.read_bytes() == apart
