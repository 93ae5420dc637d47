"""Control tokens of a model: those among given texts, those that end a turn, and what all of them are called.

Called by generate.py and by both ways of chatting. Grammars need the first two, log probabilities the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from corral.aio import run_computing
from corral.constraint.fields import special_token
from corral.gguf import GGUFArray
from corral.sched.request import Lease
from corral.store.models import Model

_KNOWN_SPECIALS = 256
_KNOWN_MODELS = 8
_MOST_NAMES = 16_384  # control tokens of a model; those with the most have a few thousand
_LONGEST_NAME = 256
_NAMELESS = frozenset({2, 3})  # token types of a GGUF that the engine writes as nothing: unknown, control
_ENDS = ("eos", "eot", "eom")
_added: dict[str, list[int]] = {}  # weights -> the token that their tokenizer begins every text with, if there is one
_names: dict[str, Mapping[int, str]] = {}  # digest -> names of the control tokens
_specials: dict[tuple[str, str], int | None] = {}  # (weights, text) -> id of the control token it is


async def special_tokens(lease: Lease, texts: Sequence[str]) -> Mapping[str, int]:
    """Those of the texts that are one control token of the model, with its id. The engine is asked once per model."""
    found: dict[str, int] = {}
    for text in texts:
        key = (str(lease.spec.model_path), text)
        if key not in _specials:
            with_specials = await lease.runner.tokenize(text, parse_special=True)
            without = await lease.runner.tokenize(text, parse_special=False)
            while len(_specials) >= _KNOWN_SPECIALS:
                _specials.pop(next(iter(_specials)))
            _specials[key] = special_token(with_specials, without)
        token = _specials[key]
        if token is not None:
            found[text] = token
    return found


async def without_bos(lease: Lease, text: str, bos: str) -> str:
    """The prompt without the token that it begins with, if the engine puts just that in front of every prompt."""
    if not bos or not text.startswith(bos):
        return text
    key = str(lease.spec.model_path)
    if key not in _added:
        while len(_added) >= _KNOWN_SPECIALS:
            _added.pop(next(iter(_added)))
        _added[key] = (await lease.runner.tokenize("", add_special=True))[:1]
    token = (await special_tokens(lease, [bos])).get(bos)
    return text.removeprefix(bos) if _added[key] == [token] else text


def end_tokens(model: Model) -> tuple[int, ...]:
    """The tokens that end the model's turn, as its GGUF says."""
    found = [model.header.get(f"tokenizer.ggml.{name}_token_id") for name in _ENDS] if model.header else []
    return tuple(dict.fromkeys(token for token in found if isinstance(token, int)))


async def control_names(model: Model) -> Mapping[int, str]:
    """Ids of the model's control tokens, and what its vocabulary calls them: in an answer they have no text."""
    if model.digest not in _names:
        names = await run_computing(_read_names, model)
        while len(_names) >= _KNOWN_MODELS:
            _names.pop(next(iter(_names)))
        _names[model.digest] = names
    return _names[model.digest]


def _read_names(model: Model) -> Mapping[int, str]:
    tokens, types = (
        model.header.get(f"tokenizer.ggml.{name}") if model.header else None for name in ("tokens", "token_type")
    )
    if not isinstance(tokens, GGUFArray) or not isinstance(types, GGUFArray):
        return {}
    pairs = enumerate(zip(tokens.iterate(), types.iterate(), strict=False))
    named = ((number, text[:_LONGEST_NAME]) for number, (text, kind) in pairs if kind in _NAMELESS)
    return dict(islice(named, _MOST_NAMES))
