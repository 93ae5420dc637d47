"""Token ids: of texts, and back to texts. Called by service.py."""

from __future__ import annotations

from collections.abc import Sequence

from corral.core import Common
from corral.errors import InvalidRequest
from corral.inference.preparing.leasing import find_model, leased, prepare
from corral.inference.shared import Shared
from corral.store.models import Model


async def tokenize(shared: Shared, common: Common, text: str, *, add_special: bool = False) -> list[int]:
    """The token ids of a text."""
    prepared = await prepare(shared, common, await find_model(shared, common, required=True))
    async with leased(shared, prepared) as lease:
        return await lease.runner.tokenize(text, add_special=add_special)


async def detokenize(shared: Shared, common: Common, ids: Sequence[int]) -> str:
    """The text of token ids; raises InvalidRequest for ids outside the vocabulary."""
    model = await find_model(shared, common, required=True)
    check_ids(model, ids, "tokens")
    prepared = await prepare(shared, common, model)
    async with leased(shared, prepared) as lease:
        return await lease.runner.detokenize(ids)


def check_ids(model: Model, ids: Sequence[int], field: str) -> None:
    """Raise InvalidRequest naming the first id that the model's vocabulary does not have."""
    size = vocabulary_size(model)
    if not ids or (min(ids) >= 0 and max(ids) < size):  # a million of them, without a step of Python for each
        return
    for place, token in enumerate(ids):
        if not 0 <= token < size:
            raise InvalidRequest(
                f"{field}[{place}]: {token} is no token of this model, whose vocabulary has {size}", field=field
            )


def vocabulary_size(model: Model) -> int:
    """How many tokens the model's vocabulary has; the largest id there can be where its header does not say."""
    tokens = model.header.get("tokenizer.ggml.tokens") if model.header else None
    return getattr(tokens, "length", 2**31)
