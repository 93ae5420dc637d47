"""A checkpoint's tokenizer as GGUF wants it: tokens, scores, types, merges, special tokens, pre-tokenizer.

| source                                    | GGUF tokenizer model |
|-------------------------------------------|----------------------|
| tokenizer.model (SentencePiece)           | llama                |
| tokenizer.json, BPE with byte_fallback    | llama                |
| tokenizer.json, BPE on bytes              | gpt2                 |
| tokenizer.json, WordPiece                 | bert                 |
| tokenizer.json, Unigram                   | t5                   |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from corral.convert.checkpoint import Checkpoint
from corral.convert.pretokenizers import pre_tokenizer
from corral.convert.sentencepieces import adds_space, charsmap, frame, template_ends
from corral.errors import InvalidRequest

_MOST_TOKENS = 2**22
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>\Z")
# Gemma 4's words for channels and tools. Source: llama.cpp conversion/gemma.py, b11549.
_SEEN = {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>'}
SPACE = "\u2581"
SPECIAL_KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# How llama.cpp spells the keys; "seperator" is the format's own misspelling.
SPECIAL_KEYS = {"unk": "unknown", "sep": "seperator", "pad": "padding"}


class TokenType(IntEnum):
    """llama.cpp's token types."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass
class Vocabulary:
    """What is written under `tokenizer.*`; `special` maps a kind (bos, eos, …) to a token id."""

    model: str
    tokens: list[str]
    scores: list[float]
    types: list[int]
    merges: list[str] = field(default_factory=list)
    pre: str = "default"
    special: dict[str, int] = field(default_factory=dict)
    add: dict[str, bool] = field(default_factory=dict)  # add_bos_token and so on, where the config says so
    end_ids: tuple[int, ...] = ()  # further end-of-turn tokens of generation_config.json
    chat_template: str = ""
    pre_is_known: bool = True
    charsmap: bytes = b""  # of a Unigram vocabulary: characters to normal ones, compiled
    remove_extra_whitespaces: bool | None = None
    token_kinds: int = 0  # of an encoder: how many segments it tells apart
    add_space_prefix: bool | None = None  # of a SentencePiece vocabulary: whether text begins with a blank

    def fit_to(self, rows: int) -> None:
        """As many tokens as the embedding has rows: unused ones added, added ones that have no row left out.

        Raises InvalidRequest when the model lacks rows for tokens of the vocabulary proper.
        """
        surplus = self.types[rows:]
        if TokenType.NORMAL in surplus or TokenType.BYTE in surplus:
            raise InvalidRequest(f"the tokenizer has {len(self.tokens)} tokens, the model only {rows}", field="files")
        del self.tokens[rows:], self.scores[rows:], self.types[rows:]
        self.special = {kind: number for kind, number in self.special.items() if number < rows}
        self.end_ids = tuple(number for number in self.end_ids if number < rows)
        self.pad_to(rows)

    def pad_to(self, size: int) -> None:
        """Grow to a number of tokens with unused ones."""
        _check_size(size)
        for number in range(len(self.tokens), size):
            self._append(f"[PAD{number}]", -1000.0, TokenType.UNUSED)

    def find(self, text: str) -> int | None:
        """The number of a token."""
        return self.tokens.index(text) if text in self.tokens else None

    def _append(self, text: str, score: float, kind: TokenType) -> None:
        self.tokens.append(text)
        self.scores.append(score)
        self.types.append(kind)


def _check_size(size: int) -> None:
    if size > _MOST_TOKENS:
        raise InvalidRequest(f"the tokenizer has a token {size - 1}, more than any has", field="files")


def read_vocabulary(checkpoint: Checkpoint, kind: str = "", *, is_pooled: bool = False) -> Vocabulary:
    """The vocabulary with special tokens and chat template; raises InvalidRequest `unknown tokenizer format`.

    `kind`: llama.cpp's kind of tokenizer for a byte-fallback BPE that is more than SentencePiece to it.
    `is_pooled`: for a decoder that embeds; what its template puts behind a text is then the end of it.
    """
    try:
        vocabulary = _read_vocabulary(checkpoint, kind)
        if is_pooled:
            _end_as_the_template(checkpoint, vocabulary)
        return vocabulary
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:  # JSON of another form
        raise InvalidRequest(f"the tokenizer's files are damaged: {error!r:.100}", field="files") from error


def _read_vocabulary(checkpoint: Checkpoint, kind: str) -> Vocabulary:
    tokenizer = checkpoint.json("tokenizer.json")
    if "tokenizer.model" in checkpoint.files and not (kind and tokenizer):
        vocabulary = _from_sentencepiece(checkpoint)
        vocabulary.add_space_prefix = adds_space(tokenizer, checkpoint.files["tokenizer.model"])
    elif tokenizer:
        vocabulary = _from_tokenizer_json(tokenizer, kind)
    else:
        raise InvalidRequest("unknown tokenizer format", field="files")
    _read_special_tokens(checkpoint, tokenizer, vocabulary)
    vocabulary.chat_template = chat_template(checkpoint)
    return vocabulary


def _from_tokenizer_json(tokenizer: Mapping[str, Any], wanted: str) -> Vocabulary:
    model = tokenizer.get("model")
    if isinstance(model, dict) and isinstance(model.get("vocab"), list):
        return _from_unigram(tokenizer, model)
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise InvalidRequest("tokenizer.json: its vocabulary is none that can be imported", field="files")
    pieces = {int(number): str(text) for text, number in model["vocab"].items()}
    added = {int(entry["id"]): entry for entry in tokenizer.get("added_tokens") or []}
    vocabulary = Vocabulary("gpt2", [], [], [])
    merges = [" ".join(pair) if isinstance(pair, list) else str(pair) for pair in model.get("merges") or []]
    size = max([*pieces, *added], default=-1) + 1
    _check_size(size)
    for number in range(size):
        entry = added.get(number)
        text = entry["content"] if entry else pieces.get(number, f"[PAD{number}]")
        kind = TokenType.NORMAL if number in pieces else TokenType.UNUSED
        if entry:
            special = entry.get("special") or _looks_special(text)
            kind = TokenType.CONTROL if special else TokenType.USER_DEFINED
        vocabulary._append(text, float(number), kind)
    kind_of_model = model.get("type") or ("WordPiece" if "continuing_subword_prefix" in model else "BPE")
    if kind_of_model == "WordPiece":
        return _as_wordpiece(vocabulary)
    if model.get("byte_fallback"):
        vocabulary.add_space_prefix = adds_space(tokenizer)
        return _as_merged(vocabulary, wanted, merges) if wanted else _as_sentencepiece(vocabulary, merges)
    vocabulary.merges = merges
    vocabulary.pre, vocabulary.pre_is_known = pre_tokenizer(tokenizer.get("pre_tokenizer"))
    return vocabulary


def _from_unigram(tokenizer: Mapping[str, Any], model: Mapping[str, Any]) -> Vocabulary:
    """SentencePiece's other kind: pieces with log probabilities, and a map of characters to normal ones."""
    vocabulary = Vocabulary("t5", [], [], [])
    _check_size(len(model["vocab"]))
    for number, (text, score) in enumerate(model["vocab"]):
        kind = TokenType.UNKNOWN if number == model.get("unk_id") else TokenType.NORMAL
        vocabulary._append(str(text), float(score), kind)
    for entry in tokenizer.get("added_tokens") or []:
        number = int(entry["id"])
        vocabulary.pad_to(number + 1)
        vocabulary.tokens[number] = str(entry["content"])
        if vocabulary.types[number] != TokenType.UNKNOWN:
            control = entry.get("special") or _looks_special(str(entry["content"]))
            vocabulary.types[number] = TokenType.CONTROL if control else TokenType.USER_DEFINED
    vocabulary.add_space_prefix = adds_space(tokenizer)
    vocabulary.remove_extra_whitespaces = True
    vocabulary.charsmap = charsmap(tokenizer)
    vocabulary.add |= frame(tokenizer)
    return vocabulary


def _as_wordpiece(vocabulary: Vocabulary) -> Vocabulary:
    """WordPiece for llama.cpp: words begin with a phantom space, continuations lose their ##."""
    vocabulary.model = "bert"
    for number, text in enumerate(vocabulary.tokens):
        if vocabulary.types[number] == TokenType.CONTROL or (text.startswith("[") and text.endswith("]")):
            continue
        vocabulary.tokens[number] = text[2:] if text.startswith("##") else SPACE + text
    return vocabulary


def _as_sentencepiece(vocabulary: Vocabulary, merges: list[str]) -> Vocabulary:
    """BPE with byte fallback is SentencePiece's BPE: a token's score is minus the rank of the merge that makes it."""
    vocabulary.model = "llama"
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair.replace(" ", "", 1), rank)
    lowest = -float(len(ranks) + 1)
    for number, text in enumerate(vocabulary.tokens):
        if vocabulary.types[number] != TokenType.NORMAL:
            vocabulary.scores[number] = -1000.0
        elif len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            vocabulary.types[number], vocabulary.scores[number] = TokenType.BYTE, 0.0
        else:
            vocabulary.scores[number] = -float(ranks[text]) if text in ranks else lowest
    return vocabulary


def _as_merged(vocabulary: Vocabulary, kind: str, merges: list[str]) -> Vocabulary:
    """Byte-fallback BPE that keeps its merges. Tokens that a chat parser must see are not control tokens."""
    vocabulary.model, vocabulary.merges = kind, merges
    for number, text in enumerate(vocabulary.tokens):
        vocabulary.scores[number] = -1000.0
        if text in _SEEN:
            vocabulary.types[number] = TokenType.USER_DEFINED
        elif vocabulary.types[number] == TokenType.NORMAL and _BYTE.match(text):
            vocabulary.types[number] = TokenType.BYTE
    return vocabulary


def _from_sentencepiece(checkpoint: Checkpoint) -> Vocabulary:
    import sentencepiece  # costs 30 ms and is needed for a few checkpoints only

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromFile(str(checkpoint.files["tokenizer.model"]))
    except (RuntimeError, OSError) as error:
        raise InvalidRequest("tokenizer.model: not a SentencePiece model", field="files") from error
    vocabulary = Vocabulary("llama", [], [], [])
    for number in range(processor.GetPieceSize()):
        kind = TokenType.NORMAL
        if processor.IsUnknown(number):
            kind = TokenType.UNKNOWN
        elif processor.IsControl(number):
            kind = TokenType.CONTROL
        elif processor.IsUnused(number):
            kind = TokenType.UNUSED
        elif processor.IsByte(number):
            kind = TokenType.BYTE
        vocabulary._append(processor.IdToPiece(number), processor.GetScore(number), kind)
    for number, text, special in sorted(_added_tokens(checkpoint)):
        vocabulary.pad_to(number + 1)
        control = special or _looks_special(text)
        vocabulary.tokens[number] = text if control else text.replace(SPACE, " ")
        vocabulary.scores[number] = -1000.0
        vocabulary.types[number] = TokenType.CONTROL if control else TokenType.USER_DEFINED
    return vocabulary


def _added_tokens(checkpoint: Checkpoint) -> Iterable[tuple[int, str, bool]]:
    for text, number in checkpoint.json("added_tokens.json").items():
        yield int(number), text, False
    for number, entry in (checkpoint.json("tokenizer_config.json").get("added_tokens_decoder") or {}).items():
        yield int(number), entry["content"], bool(entry.get("special"))


def _looks_special(text: str) -> bool:
    """Added tokens that vendors forgot to mark special. Source: llama.cpp conversion/base.py, b11549."""
    if text in {"<pad>", "<mask>", "<2mass>", "[@BOS@]"}:
        return True
    return any(text.startswith(a) and text.endswith(b) for a, b in (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")))


def _read_special_tokens(checkpoint: Checkpoint, tokenizer: Mapping[str, Any], vocabulary: Vocabulary) -> None:
    config = checkpoint.json("tokenizer_config.json")
    named = {**checkpoint.json("special_tokens_map.json"), **config}
    ids = {text: number for number, text in reversed(list(enumerate(vocabulary.tokens)))}
    ids |= {entry["content"]: int(entry["id"]) for entry in tokenizer.get("added_tokens") or []}
    generation = {**checkpoint.config, **checkpoint.json("generation_config.json")}
    for kind in SPECIAL_KINDS:
        value = named.get(f"{kind}_token")
        text = value.get("content") if isinstance(value, dict) else value
        number = ids.get(text) if isinstance(text, str) else None
        if number is None and isinstance(generation.get(f"{kind}_token_id"), int):
            number = generation[f"{kind}_token_id"]
        if number is not None and number >= 0:
            vocabulary.special[kind] = number
        if isinstance(config.get(f"add_{kind}_token"), bool):
            vocabulary.add[kind] = config[f"add_{kind}_token"]
    if vocabulary.model not in {"bert", "t5"}:  # what surrounds a text there is no matter of one token
        for kind, text in template_ends(tokenizer).items():
            if text in ids and ids[text] == vocabulary.special.get(kind):
                vocabulary.add[kind] = True
    ends = generation.get("eos_token_id")
    if isinstance(ends, list) and ends:
        vocabulary.end_ids = tuple(int(number) for number in ends)
        vocabulary.special.setdefault("eos", vocabulary.end_ids[0])


def _end_as_the_template(checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Qwen 3 Embedding pools its last token, which is not the end of a turn. Source: gguf vocab.py, b11549."""
    number = vocabulary.find(template_ends(checkpoint.json("tokenizer.json")).get("eos", ""))
    if number is None:
        return
    usual = vocabulary.special.get("eos", number)
    if usual != number:
        vocabulary.special.setdefault("eot", usual)
    vocabulary.special["eos"], vocabulary.add["eos"] = number, True


def chat_template(checkpoint: Checkpoint) -> str:
    """The default chat template: a file of its own before the processor's and the tokenizer's, as `transformers`."""
    text = checkpoint.text("chat_template.jinja")
    configs = ("chat_template.json", "tokenizer_config.json")
    found = (_default_template(checkpoint.json(name).get("chat_template")) for name in configs)
    return text or next(filter(None, found), "")


def _default_template(template: Any) -> str:
    if isinstance(template, list):
        named = (entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default")
        template = next(named, {}).get("template")
    return template if isinstance(template, str) else ""
