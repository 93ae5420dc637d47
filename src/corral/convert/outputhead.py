"""The matrix that turns the last state into logits: its own, or the token embedding once more.

A config's `tie_word_embeddings` is no proof: some are missing, and some checkpoints hold a copy all the same. What is
in the file decides, as in `transformers` 5; a copy is not written, since the engine uses the embedding by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from corral.convert.family import Family, Head
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight
from corral.errors import InvalidRequest

_HEAD = "lm_head.weight"
_OUTPUT = "output.weight"
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|embeddings)\.weight$")
_SAMPLED_ROWS = 16


def settle_head(weights: Mapping[str, Weight], config: HubConfig, family: Family) -> dict[str, Weight]:
    """The weights with the head under GGUF's name where it is to be written, and without it elsewhere.

    Raises InvalidRequest for one of its own where the engine's architecture cannot have one.
    """
    found = {name: weight for name, weight in weights.items() if name != _HEAD}
    embedding = next((weight for name, weight in weights.items() if _EMBEDDING.search(name)), None)
    head = weights.get(_HEAD)
    if family.embedding:
        return dict(weights)
    if embedding is None:
        return found  # which is refused for want of it
    if head is not None and not _is_copy(head, embedding):
        usually_tied = family.head in {Head.USUALLY_TIED, Head.ALWAYS_TIED}
        if usually_tied and config.flag("tie_word_embeddings", "tie_embedding", default=True):
            return found  # quantizers write what the model never uses
        if family.head is Head.ALWAYS_TIED:
            message = (
                f"tensor {head.name!r} is not the token embedding, which is all that {family.name} can have for it"
            )
            raise InvalidRequest(message, field="files")
        return {**found, _OUTPUT: head}
    if family.head is Head.NEEDED:
        return {**found, _OUTPUT: embedding}
    return found


def _is_copy(head: Weight, embedding: Weight) -> bool:
    """Told from rows at the start, in the middle and at the end: whole matrices are too large to read for it."""
    if head.shape != embedding.shape or head.dtype != embedding.dtype:
        return False
    rows = head.shape[0]
    starts = {0, rows // 2, max(0, rows - _SAMPLED_ROWS)}
    ranges = [(start, min(rows, start + _SAMPLED_ROWS)) for start in starts]
    return all(np.array_equal(head.rows(*span), embedding.rows(*span)) for span in ranges)
