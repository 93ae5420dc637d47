"""Vocabularies: fitting the embedding, chat templates by precedence, splits by their regex, odd files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.checkpoints import tokenizer_json
from tests.fakes.hub import SPLITS

from corral.convert.checkpoint import Checkpoint
from corral.convert.pretokenizers import pre_tokenizer
from corral.convert.vocabulary import SPACE, TokenType, Vocabulary, chat_template, read_vocabulary
from corral.errors import InvalidRequest


def checkpoint(folder: Path, **files: object) -> Checkpoint:
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return Checkpoint({path.name: path for path in folder.iterdir()})


def test_added_tokens_without_a_row_are_left_out_with_what_points_to_them() -> None:
    types = [TokenType.NORMAL, TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.CONTROL]
    vocabulary = Vocabulary("llama", ["a", "b", "<x>", "<end>"], [0.0] * 4, [int(kind) for kind in types])
    vocabulary.special, vocabulary.end_ids = {"bos": 1, "eos": 3}, (1, 3)
    vocabulary.fit_to(2)
    assert (vocabulary.tokens, vocabulary.special) == (["a", "b"], {"bos": 1})
    assert list(vocabulary.end_ids) == [1]


def test_a_word_without_a_row_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="2 tokens, the model only 1"):
        Vocabulary("gpt2", ["a", "b"], [0.0] * 2, [int(TokenType.NORMAL)] * 2).fit_to(1)


def test_rows_without_a_token_get_unused_ones_but_never_without_bound() -> None:
    vocabulary = Vocabulary("gpt2", ["a"], [0.0], [int(TokenType.NORMAL)])
    vocabulary.fit_to(3)
    assert vocabulary.tokens == ["a", "[PAD1]", "[PAD2]"]
    with pytest.raises(InvalidRequest, match="more than any has"):
        vocabulary.fit_to(2**40)


def test_the_template_in_a_file_of_its_own_counts_before_the_processors_and_the_tokenizers(tmp_path: Path) -> None:
    tokenizer, processor = {"chat_template": "T"}, {"chat_template": "P"}
    assert chat_template(checkpoint(tmp_path, tokenizer_config__json=tokenizer)) == "T"
    assert chat_template(checkpoint(tmp_path, chat_template__json=processor)) == "P"
    assert chat_template(checkpoint(tmp_path, chat_template__jinja="J")) == "J"


@pytest.mark.parametrize("template", [None, 7, [], [7], [{"name": "x"}], {"a": 1}])
def test_a_template_of_another_form_is_none(tmp_path: Path, template: Any) -> None:
    assert chat_template(checkpoint(tmp_path, tokenizer_config__json={"chat_template": template})) == ""


@pytest.mark.parametrize(
    ("split", "name"),
    [("llama3", "llama-bpe"), ("qwen2", "qwen2"), ("qwen35", "qwen35"), ("gpt-4o", "gpt-4o"), ("tekken", "tekken")],
)
def test_splits_are_known_by_their_regex(split: str, name: str) -> None:
    parts = [{"type": "Split", "pattern": {"Regex": SPLITS[split]}}, {"type": "ByteLevel"}]
    assert pre_tokenizer({"type": "Sequence", "pretokenizers": parts}) == (name, True)
    assert pre_tokenizer({"type": "Split", "pattern": {"Regex": SPLITS[split] + "|x"}}) == ("default", False)


def test_byte_fallback_bpe_keeps_its_merges_where_the_engine_wants_them(tmp_path: Path) -> None:
    vocab = {"<0x0A>": 0, "a": 1, "b": 2, "ab": 3, f"{SPACE}a": 4}
    model = {"type": "BPE", "byte_fallback": True, "vocab": vocab, "merges": ["a b"]}
    added = [{"id": 5, "content": "<|tool_call>", "special": True}, {"id": 6, "content": "<end>", "special": True}]
    vocabulary = read_vocabulary(
        checkpoint(tmp_path, tokenizer__json={"model": model, "added_tokens": added}), "gemma4"
    )
    assert (vocabulary.model, vocabulary.merges) == ("gemma4", ["a b"])
    kinds = [TokenType(kind).name for kind in vocabulary.types]
    assert kinds == ["BYTE", "NORMAL", "NORMAL", "NORMAL", "NORMAL", "USER_DEFINED", "CONTROL"]


@pytest.mark.parametrize("id_", [-1, 2**50, "x", None, 1.5])
def test_an_added_token_with_an_odd_number_is_refused_or_passed_over(tmp_path: Path, id_: Any) -> None:
    tokenizer = tokenizer_json()
    tokenizer["added_tokens"].append({"id": id_, "content": "<x>"})
    try:
        vocabulary = read_vocabulary(checkpoint(tmp_path, tokenizer__json=tokenizer))
    except InvalidRequest:
        return
    assert len(vocabulary.tokens) == 320


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("<|begin|>", "", {"bos": True}),
        ("<|begin|>", "<|end|>", {"bos": True, "eos": True}),
        ("<|pad|>", "", {"bos": False}),  # some other word before the text is no beginning
    ],
)
def test_what_the_template_puts_around_a_text_is_put_there(
    tmp_path: Path, before: str, after: str, expected: dict[str, bool], is_nested: bool
) -> None:
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    ends = [{"SpecialToken": {"id": text, "type_id": 0}} if text else None for text in (before, after)]
    template: dict[str, Any] = {"type": "TemplateProcessing", "single": [p for p in (ends[0], sequence, ends[1]) if p]}
    nested = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}
    files = {
        "tokenizer__json": {**tokenizer_json(), "post_processor": nested if is_nested else template},
        "tokenizer_config__json": {"bos_token": "<|begin|>", "eos_token": "<|end|>", "add_bos_token": False},
    }
    assert read_vocabulary(checkpoint(tmp_path, **files)).add == {"bos": False, **expected}
