"""How a model's answers are drafted ahead and then checked: the kind of speculation that its files are made for. Pure.

Called by plan.py. Kinds are llama.cpp's words for --spec-type.

| files                                              | kind         | when                                  |
|----------------------------------------------------|--------------|---------------------------------------|
| a DRAFT layer of architecture dflash               | draft-dflash | unless draft_num_predict is 0         |
| … with a Markov head                               | draft-dspark | "                                     |
| a DRAFT layer of architecture eagle3               | draft-eagle3 | "                                     |
| a DRAFT layer with layers for multi-token prediction | draft-mtp  | "                                     |
| any other DRAFT layer: a small model of its own    | draft-simple | "                                     |
| such layers inside the weights                     | draft-mtp    | where draft_num_predict is set, not 0 |
| any other                                          | ngram-simple | by `repeating`                        |

The last kind needs no drafter: when the last eight tokens stand in the prompt or the answer before, the eight that
followed there are the draft. An edit, an extraction or a quote is made of such stretches; where nothing repeats,
nothing is drafted and nothing lost. Measured: docs/adr/0025.

Source: ollama llm/llama_server.go appendDraftArgs, externalDraftType, hasMTPDraft, which takes every layer but dflash
for draft-mtp; llama.cpp common/speculative.cpp common_speculative_types_from_gguf, 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.gguf import GGUFHeader
from corral.runner.spec import NGRAM, least_batch
from corral.sched.memory import ModelFacts
from corral.store.model import Model

DEFAULT_DRAFT_TOKENS = 4
REPEATED_TOKENS = 8  # of the text that must agree, and that are drafted then
_MTP_KEY = "nextn_predict_layers"
_OF_ARCHITECTURE = {"dflash": "draft-dflash", "eagle3": "draft-eagle3"}
_MARKOV_HEAD = "markov_w1.weight"


@dataclass(frozen=True, slots=True)
class Drafting:
    """The kind ("" = nothing is drafted), the file of the drafter (None = the model's own) and tokens ahead."""

    kind: str = ""
    path: Path | None = None
    tokens: int = 0


def drafting(model: Model, options: Mapping[str, Any]) -> Drafting:
    """How this model drafts with these options. Reads the model's headers if nobody has yet; raises as they do."""
    tokens = options.get("draft_num_predict")
    if model.draft_header is not None:
        tokens = DEFAULT_DRAFT_TOKENS if tokens is None else int(tokens)
        return Drafting(_kind_of(model.draft_header), model.draft, tokens) if tokens > 0 else Drafting()
    if not tokens or model.engine_header is None or not model.engine_header.integer(_MTP_KEY):
        return Drafting()
    return Drafting("draft-mtp", None, int(tokens))


def repeating(facts: ModelFacts, options: Mapping[str, Any], *, slots: int, n_batch: int) -> Drafting:
    """Drafts from the text itself, where that cannot harm.

    A step must take those of every slot, and what was wrong must be dropped from the cache, which a recurrent state
    cannot be.
    """
    fits = least_batch(slots, REPEATED_TOKENS) <= n_batch
    if facts.recurrent_bytes or facts.projector_bytes or not fits or options.get("draft_num_predict") == 0:
        return Drafting()
    return Drafting(NGRAM, None, REPEATED_TOKENS)


def _kind_of(header: GGUFHeader) -> str:
    if header.architecture == "dflash" and any(tensor.name == _MARKOV_HEAD for tensor in header.tensors):
        return "draft-dspark"
    found = _OF_ARCHITECTURE.get(header.architecture)
    return found or ("draft-mtp" if header.integer(_MTP_KEY) else "draft-simple")
