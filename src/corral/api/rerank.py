"""Cohere's and Jina's wire shapes of reranking, which agree but for how a document is written."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from corral.api.openai import EngineFields


class RerankRequest(EngineFields, kw_only=True):
    """POST /v1/rerank; a document is a text or an object with a `text`."""

    query: str = ""
    documents: list[Any] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = None


class RankedText(msgspec.Struct):
    """A document, given back."""

    text: str


class RankedDocument(msgspec.Struct):
    """One entry of `results`; `index` is the place in the request."""

    index: int
    relevance_score: float
    document: RankedText | UnsetType = UNSET


class RerankUsage(msgspec.Struct):
    """Tokens of the query with each document, summed."""

    prompt_tokens: int
    total_tokens: int


class RerankReply(msgspec.Struct):
    """The answer, best document first."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: RerankUsage
    object: str = "list"
    warnings: list[dict[str, Any]] | UnsetType = UNSET
