"""Checkpoints to GGUF: metadata, vocabulary, tensors, errors. Logits: tests/e2e/test_convert_logits.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from tests.fakes.checkpoints import tokenizer_json, write_checkpoint

from corral.convert import convert_directory, plan_conversion
from corral.convert.checkpoint import Checkpoint
from corral.convert.vocabulary import SPACE, TokenType, read_vocabulary
from corral.errors import InvalidRequest

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "convert.json").read_text())


def files_of(folder: Path, family: str) -> dict[str, Path]:
    return write_checkpoint(folder, REFERENCE[family]["config"], REFERENCE[family]["shapes"])


def test_progress_ends_at_the_total_and_never_goes_back(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert_directory(
        files_of(tmp_path / "m", "llama"), tmp_path / "o.gguf", lambda done, total: seen.append((done, total))
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


@pytest.mark.filterwarnings("default")  # the library's reader leaves its memory map to the garbage collector
def test_small_tensors_are_float32_and_the_rest_half(tmp_path: Path) -> None:
    convert_directory(files_of(tmp_path / "m", "qwen2"), tmp_path / "o.gguf")
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "o.gguf").tensors}
    assert types["blk.0.attn_q.bias"] == "F32"
    assert types["blk.0.attn_q.weight"] == "F16"
    assert types["output_norm.weight"] == "F32"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"architectures": ["NopeForCausalLM"]}, 'unsupported architecture "NopeForCausalLM"'),
        ({"architectures": []}, "unknown architecture"),
        ({"hidden_size": None}, "hidden_size is missing"),
    ],
)
def test_a_config_that_cannot_be_imported_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    config = {**REFERENCE["llama"]["config"], **change}
    files = write_checkpoint(tmp_path / "m", config, REFERENCE["llama"]["shapes"])
    with pytest.raises(InvalidRequest, match=why):
        convert_directory(files, tmp_path / "o.gguf")


def test_a_tensor_that_the_family_does_not_have_is_named(tmp_path: Path) -> None:
    shapes = {**REFERENCE["llama"]["shapes"], "model.layers.0.extra.weight": [4, 4]}
    files = write_checkpoint(tmp_path / "m", REFERENCE["llama"]["config"], shapes)
    with pytest.raises(InvalidRequest, match=r"model\.layers\.0\.extra\.weight"):
        convert_directory(files, tmp_path / "o.gguf")


def test_without_a_tokenizer_the_checkpoint_is_refused(tmp_path: Path) -> None:
    files = files_of(tmp_path / "m", "llama")
    del files["tokenizer.json"]
    with pytest.raises(InvalidRequest, match="unknown tokenizer format"):
        convert_directory(files, tmp_path / "o.gguf")


def test_an_embedding_model_without_modules_json_says_what_is_missing(tmp_path: Path) -> None:
    files = files_of(tmp_path / "m", "bert")
    del files["modules.json"]
    with pytest.raises(InvalidRequest, match=r"modules\.json is missing"):
        convert_directory(files, tmp_path / "o.gguf")


def vocabulary_of(folder: Path, tokenizer: dict[str, Any], config: dict[str, Any] | None = None) -> Any:
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config or {}))
    return read_vocabulary(Checkpoint({path.name: path for path in folder.iterdir()}))


def test_merges_may_be_pairs_or_strings(tmp_path: Path) -> None:
    tokenizer = tokenizer_json()
    strings = vocabulary_of(tmp_path, tokenizer).merges
    tokenizer["model"]["merges"] = [merge.split(" ") for merge in tokenizer["model"]["merges"]]
    assert vocabulary_of(tmp_path, tokenizer).merges == strings


def test_byte_fallback_bpe_becomes_sentencepiece_with_scores_by_merge_rank(tmp_path: Path) -> None:
    vocab = {"<unk>": 0, "<0x0A>": 1, "a": 2, "b": 3, "ab": 4, f"{SPACE}ab": 5, SPACE: 6}
    model = {"type": "BPE", "byte_fallback": True, "vocab": vocab, "merges": ["a b", f"{SPACE} ab"]}
    added = [{"id": 0, "content": "<unk>", "special": True}]
    vocabulary = vocabulary_of(tmp_path, {"model": model, "added_tokens": added}, {"unk_token": "<unk>"})
    assert vocabulary.model == "llama"
    assert vocabulary.types[:3] == [TokenType.CONTROL, TokenType.BYTE, TokenType.NORMAL]
    assert vocabulary.scores[4] > vocabulary.scores[5] > vocabulary.scores[2]
    assert vocabulary.special == {"unk": 0}


def test_an_unknown_splitting_rule_is_told(tmp_path: Path) -> None:
    tokenizer = tokenizer_json()
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "x+"}}]}
    files = files_of(tmp_path / "m", "llama")
    files["tokenizer.json"].write_text(json.dumps(tokenizer))
    converted = convert_directory(files, tmp_path / "o.gguf")
    assert [notice.code for notice in converted.notices] == ["pre_tokenizer_unknown"]


def test_an_encoder_that_cannot_be_imported_is_left_out_and_told(tmp_path: Path) -> None:
    shapes = {**REFERENCE["gemma3n"]["shapes"], "model.vision_tower.timm_model.conv_stem.conv.weight": [4, 3, 3, 3]}
    config = {**REFERENCE["gemma3n"]["config"], "architectures": ["Gemma3nForConditionalGeneration"]}
    plan = plan_conversion(write_checkpoint(tmp_path / "m", config, shapes))
    assert plan.projector is None
    assert [(notice.code, notice.facts["tensors"]) for notice in plan.notices] == [("encoder_dropped", 1)]


@pytest.mark.parametrize("family", ["qwen3-moe", "gpt-oss", "gemma3n"])
def test_what_is_planned_is_what_is_written(family: str, tmp_path: Path) -> None:
    plan = plan_conversion(files_of(tmp_path / "m", family))
    done: list[int] = []
    made = plan.write(tmp_path / "o.gguf", tmp_path / "p.gguf", lambda count, total: done.append(count))
    assert done[-1] == plan.size_bytes
    assert 0 <= made.path.stat().st_size - plan.size_bytes < 200_000  # metadata and padding


def test_the_default_chat_template_of_several_is_taken(tmp_path: Path) -> None:
    config = {"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}
    assert vocabulary_of(tmp_path, tokenizer_json(), config).chat_template == "D"
