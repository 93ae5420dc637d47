"""Checkpoints of strangers: whatever a config or a tokenizer says, it is planned or refused with an InvalidRequest."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.checkpoints import write_checkpoint
from tests.fakes.hubfamilies import hub_checkpoint
from tests.fakes.library import GOLDEN, KitModel

from corral.convert import plan_conversion
from corral.errors import InvalidRequest

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "convert.json").read_text())
FAMILIES = [name for name in REFERENCE if name != "lora"]
ODD: list[Any] = [None, 0, -1, 1, 3, 2**31 - 1, 2**62, 1e308, -0.5, "", "x", "yarn", [], [1], ["x"], {}, {"a": 1}, True]
TRIES = 25


def good_files(folder: Path, family: str) -> dict[str, Path]:
    reference = REFERENCE[family]
    return write_checkpoint(folder, reference["config"], reference["shapes"], reference.get("tokenizer"))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found: list[tuple[Any, Any]] = [(value, key) for key, _ in pairs]
    for _, inner in pairs:
        if isinstance(inner, dict | list):
            found += places(inner)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_an_odd_config_is_planned_or_refused(family: str, tmp_path: Path) -> None:
    rng = random.Random(family)
    files = good_files(tmp_path, family)
    refused = 0
    for _ in range(TRIES):
        config = copy.deepcopy(REFERENCE[family]["config"])
        for _ in range(rng.choice((1, 1, 2, 5))):
            container, key = rng.choice(places(config))
            container[key] = copy.deepcopy(rng.choice(ODD))
        config["architectures"] = REFERENCE[family]["config"]["architectures"]
        files["config.json"].write_text(json.dumps(config))
        try:
            plan_conversion(files)
        except InvalidRequest:
            refused += 1
    assert 0 < refused < TRIES


@pytest.mark.filterwarnings("default")  # the library's reader leaves its memory map to the garbage collector
@pytest.mark.parametrize("name", ["ministral-3", "gemma3-vision-q4"])
def test_an_odd_config_of_the_eyes_is_planned_or_refused(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    files = hub_checkpoint(KitModel(GOLDEN, name).weights, tmp_path)
    good = json.loads(files["config.json"].read_text())
    for _ in range(2 * TRIES):
        config = copy.deepcopy(good)
        container, key = rng.choice(places(config["vision_config"]))
        container[key] = copy.deepcopy(rng.choice(ODD))
        files["config.json"].write_text(json.dumps(config))
        with contextlib.suppress(InvalidRequest):
            plan_conversion(files)


@pytest.mark.parametrize("family", ["llama", "bert", "xlm-roberta"])
def test_an_odd_tokenizer_is_planned_or_refused(family: str, tmp_path: Path) -> None:
    rng = random.Random(family)
    files = good_files(tmp_path, family)
    names = ["tokenizer.json", "tokenizer_config.json"]
    good = {name: json.loads(files[name].read_text()) for name in names}
    for _ in range(3 * TRIES):
        name = rng.choice(names)
        changed = copy.deepcopy(good[name])
        top = rng.choice([changed, *(part for part in changed.values() if isinstance(part, dict) and part)])
        container, key = rng.choice(places(top)[:40])
        container[key] = copy.deepcopy(rng.choice(ODD))
        files[name].write_text(json.dumps(changed))
        with contextlib.suppress(InvalidRequest):
            plan_conversion(files)
        files[name].write_text(json.dumps(good[name]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_without_its_embedding_is_refused(family: str, tmp_path: Path) -> None:
    shapes = REFERENCE[family]["shapes"]
    ends = ("embed_tokens.weight", "word_embeddings.weight", "backbone.embeddings.weight")
    embedding = next(name for name in shapes if name.endswith(ends))
    files = write_checkpoint(
        tmp_path, REFERENCE[family]["config"], {name: shape for name, shape in shapes.items() if name != embedding}
    )
    with pytest.raises(InvalidRequest, match="no token embedding"):
        plan_conversion(files)


@pytest.mark.parametrize("family", ["llama", "qwen3-moe", "qwen3.5", "deepseek-v3", "gpt-oss", "llama4"])
def test_a_layer_that_is_missing_is_named(family: str, tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in REFERENCE[family]["shapes"].items() if ".layers.1." not in name}
    with pytest.raises(InvalidRequest, match="no tensors of layer 1"):
        plan_conversion(write_checkpoint(tmp_path, REFERENCE[family]["config"], shapes))


def test_an_expert_that_is_missing_is_named(tmp_path: Path) -> None:
    shapes = dict(REFERENCE["qwen3-moe"]["shapes"])
    del shapes["model.layers.1.mlp.experts.2.up_proj.weight"]
    with pytest.raises(InvalidRequest, match=r"'model\.layers\.1\.mlp\.experts\.2\.up_proj\.weight' is missing"):
        plan_conversion(write_checkpoint(tmp_path, REFERENCE["qwen3-moe"]["config"], shapes))


def test_more_experts_than_the_config_speaks_of_are_named(tmp_path: Path) -> None:
    config = REFERENCE["qwen3-moe"]["config"] | {"num_experts": 3, "num_local_experts": 3}
    with pytest.raises(InvalidRequest, match=r"experts\.3\..*3 experts"):
        plan_conversion(write_checkpoint(tmp_path, config, REFERENCE["qwen3-moe"]["shapes"]))


@pytest.mark.parametrize(
    ("family", "tensor", "shape"),
    [
        ("llama", "model.layers.0.self_attn.q_proj.weight", [63, 64]),
        ("deepseek-v3", "model.layers.0.self_attn.kv_b_proj.weight", [100, 32]),
        ("qwen3.5", "model.layers.0.linear_attn.in_proj_qkv.weight", [64, 64]),
        ("qwen3-next", "model.layers.0.linear_attn.in_proj_qkvz.weight", [64, 64]),
        ("lfm2", "model.layers.0.conv.conv.weight", [64, 2, 3]),
        ("llama4", "model.layers.1.feed_forward.experts.gate_up_proj", [4, 64]),
        ("gpt-oss", "model.layers.0.mlp.experts.gate_up_proj", [4, 64]),
    ],
)
def test_a_shape_that_the_config_does_not_explain_is_named(
    family: str, tensor: str, shape: list[int], tmp_path: Path
) -> None:
    shapes = REFERENCE[family]["shapes"]
    assert tensor in shapes
    with pytest.raises(InvalidRequest, match="has shape") as caught:
        plan_conversion(write_checkpoint(tmp_path, REFERENCE[family]["config"], {**shapes, tensor: shape}))
    assert tensor in str(caught.value)
