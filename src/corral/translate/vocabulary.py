"""Repairs of tokenizers that several families need: vocabularies cut to an embedding's rows, pre-tokenizers."""

from __future__ import annotations

from corral.errors import UntranslatableModel
from corral.gguf import GGUFArray, GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.view import View

MAX_TOKENS = 2**21  # the largest vocabularies have a quarter of a million
_PER_TOKEN = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")
_MODEL, _PRE = "tokenizer.ggml.model", "tokenizer.ggml.pre"
_FURTHER_ENDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")  # of the turn, of the message
_SPACE_PREFIX = "tokenizer.ggml.add_space_prefix"


def lacks_pre(header: GGUFHeader) -> bool:
    """Whether the pre-tokenizer is missing, or says `default`, which means that the converter did not know."""
    return header.metadata.get(_PRE, "") in ("", "default")


def adds_blank(header: GGUFHeader) -> bool:
    """Whether the engine would put a blank before each piece of text only because the file does not forbid it."""
    return header.metadata.get(_MODEL) == "llama" and _SPACE_PREFIX not in header.metadata


def has_spare_tokens(header: GGUFHeader, embedding: str) -> bool:
    """Whether the vocabulary has more tokens than the embedding has rows."""
    tokens = header.metadata.get(_PER_TOKEN[0])
    rows = next((tensor.shape[-1] for tensor in header.tensors if tensor.name == embedding and tensor.shape), None)
    return isinstance(tokens, GGUFArray) and rows is not None and tokens.length > rows


def set_pre(view: View, name: str) -> None:
    """Name the pre-tokenizer."""
    view.put(_PRE, ValueType.STRING, name)


def forbid_blank(view: View) -> None:
    """The models' own tokenizers put no blank before a text, unless the file says otherwise."""
    view.default(_SPACE_PREFIX, ValueType.BOOL, False)


def name_ends(view: View) -> list[int]:
    """Give the second and third token of those that end an answer the names by which the engine knows them."""
    ends = view.integers("tokenizer.ggml.eos_token_ids")
    for key, token in zip(_FURTHER_ENDS, ends[1:], strict=False):
        view.default(key, ValueType.UINT32, token)
    return ends


def cut_vocabulary(view: View, rows: int) -> None:
    """Keep as many tokens as an embedding has rows: converters left multimodal tokens in that have none."""
    for key in _PER_TOKEN:
        view.cut_array(key, rows)


def vocabulary(view: View) -> list[str]:
    """The source's tokens; raises UntranslatableModel for what cannot be a vocabulary."""
    array = view.array(_PER_TOKEN[0])
    if array is None or array.type is not ValueType.STRING or array.length > MAX_TOKENS:
        raise UntranslatableModel(f"key {_PER_TOKEN[0]!r}", f"is no list of up to {MAX_TOKENS} tokens")
    return array.read()


def token_types(view: View) -> list[int]:
    """The source's type of each token; empty when it has none."""
    return view.integers(_PER_TOKEN[2], MAX_TOKENS)


def set_token_types(view: View, types: list[int]) -> None:
    """Say anew of which type each token is."""
    view.put_array(_PER_TOKEN[2], ValueType.INT32, types)
