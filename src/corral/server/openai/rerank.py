"""POST /v1/rerank in Cohere's and Jina's shape, and POST /v1/systemone, which the engine's own handler answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from corral.api.bodies import convert
from corral.api.native_replies import warnings_of
from corral.api.openai import EngineFields
from corral.api.rerank import RankedDocument, RankedText, RerankReply, RerankRequest, RerankUsage
from corral.core import Common
from corral.errors import EngineError, InvalidRequest, ModelNotFound
from corral.server.deps import Deps, deps_of
from corral.server.openai.encoding import new_id
from corral.server.openai.fields import common_of
from corral.server.openai.wire import error_reply, json_reply, read_object, read_request
from corral.server.stream import Reply

_NO_DECISIONS = frozenset({404, 501})  # what the engine answers where it has no such handler or the model is none


async def rerank(request: Request) -> Response:
    """Score documents against a query, best first."""
    body, notices = await read_request(request, RerankRequest)
    deps = deps_of(request)
    documents = read_documents(body.documents)
    if body.top_n is not None and body.top_n < 1:
        raise InvalidRequest("top_n must be at least 1", field="top_n")
    common = common_of(request, body, {}, notices, strict=deps.settings.strict)
    return Reply(lambda: _rank(deps, common, body, documents), error_reply)


def read_documents(value: Sequence[Any] | None) -> list[str]:
    """The documents' texts; raises InvalidRequest naming the one that has none."""
    if not value:
        raise InvalidRequest("documents must be a list that is not empty", field="documents")
    texts = []
    for index, item in enumerate(value):
        text = item.get("text") if isinstance(item, dict) else item
        if not isinstance(text, str):
            raise InvalidRequest(f'documents[{index}] must be a text or an object with a "text"', field="documents")
        texts.append(text)
    return texts


async def system_one(request: Request) -> Response:
    """Hand the body to the engine as it is, but for `model`; 404 where the engine or the model cannot."""
    deps = deps_of(request)
    body = await read_object(request)
    fields = convert(body, EngineFields)
    common = common_of(request, fields, {}, (), strict=False)
    return Reply(lambda: _decide(deps, common, body), error_reply)


async def _rank(deps: Deps, common: Common, body: RerankRequest, documents: list[str]) -> Response:
    ranking = await deps.inference.rerank(common, body.query, documents, body.top_n or 0)
    warnings = warnings_of(ranking.notices)
    results = [
        RankedDocument(index, score, RankedText(documents[index]) if body.return_documents else UNSET)
        for index, score in ranking.results
    ]
    usage = RerankUsage(ranking.prompt_tokens, ranking.prompt_tokens)
    reply = RerankReply(new_id("rerank-"), body.model, results, usage, warnings=warnings)
    return json_reply(reply, 0 if isinstance(warnings, UnsetType) else len(warnings))


async def _decide(deps: Deps, common: Common, body: dict[str, Any]) -> Response:
    try:
        return json_reply(await deps.inference.system_one(common, body))
    except EngineError as error:
        if error.status not in _NO_DECISIONS:
            raise
        raise ModelNotFound(common.model, f'"{common.model}" is no decision model') from error
