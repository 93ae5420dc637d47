"""Reranking: how relevant each document is to a query. Called by service.py."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from corral.core import Common, Notice
from corral.errors import EngineError, InvalidRequest, UnsupportedCapability
from corral.inference.preparing.leasing import find_model, leased, prepare
from corral.inference.shared import Shared


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores of documents, best first: `(index into the documents, relevance score)`."""

    results: tuple[tuple[int, float], ...]
    prompt_tokens: int = 0
    total_duration_ns: int = 0
    load_duration_ns: int = 0
    notices: tuple[Notice, ...] = ()


async def rerank(shared: Shared, common: Common, query: str, documents: Sequence[str], top_n: int = 0) -> Ranking:
    """Score every document against the query; top_n 0 = all of them.

    Raises InvalidRequest for an empty query, ModelNotFound, and UnsupportedCapability from a model without a ranking
    head.
    """
    start = time.perf_counter_ns()
    if not query:
        raise InvalidRequest("query is required", field="query")
    prepared = await prepare(shared, common, await find_model(shared, common, required=True))
    if not documents:
        return Ranking((), notices=prepared.notices)
    async with leased(shared, prepared) as lease:
        loaded = time.perf_counter_ns()
        try:
            scores, tokens = await lease.runner.rerank(query, documents)
        except EngineError as error:
            if error.status in {400, 501}:
                raise UnsupportedCapability(
                    common.model, "rerank", f'"{common.model}" does not support rerank'
                ) from error
            raise
    ordered = sorted(scores, key=lambda pair: -pair[1])
    kept = tuple(ordered[:top_n] if top_n > 0 else ordered)
    return Ranking(kept, tokens, time.perf_counter_ns() - start, loaded - start, prepared.notices)


async def system_one(shared: Shared, common: Common, body: dict[str, Any]) -> dict[str, Any]:
    """Hand a request to the engine's System-One handler; raises EngineError 501 when the model is no decision model."""
    prepared = await prepare(shared, common, await find_model(shared, common, required=True))
    async with leased(shared, prepared) as lease:
        return await lease.runner.systemone(body)
