"""Control tokens of a leased model: those among given texts, and those that end a turn. Grammars need both.

Called by generate.py and by both ways of chatting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from corral.constraint.fields import special_token
from corral.sched.request import Lease
from corral.store.models import Model

_KNOWN_SPECIALS = 256
_ENDS = ("eos", "eot", "eom")
_added: dict[str, list[int]] = {}  # weights -> the token that their tokenizer begins every text with, if there is one
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
