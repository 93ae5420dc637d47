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


def end_tokens(model: Model) -> tuple[int, ...]:
    """The tokens that end the model's turn, as its GGUF says."""
    found = [model.header.get(f"tokenizer.ggml.{name}_token_id") for name in _ENDS] if model.header else []
    return tuple(dict.fromkeys(token for token in found if isinstance(token, int)))
