"""POST /api/tokenize, /api/detokenize, /api/rerank: ours, for what the engine can do beyond Ollama's routes."""

from __future__ import annotations

from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from corral.api.bodies import convert
from corral.api.native import CommonFields, common_of
from corral.api.native_manage import DetokenizeFields, RerankFields, TokenizeFields
from corral.api.native_replies import warnings_of
from corral.core import Common
from corral.server.body import read_object
from corral.server.callers import caller_of
from corral.server.deps import deps_of
from corral.server.native.replies import json_reply, reply_with_warnings
from corral.server.stream import Reply

T = TypeVar("T", bound=CommonFields)


async def tokenize(request: Request) -> Response:
    """`{"model","text","add_special"?}` → `{"model","tokens":[…]}`."""
    fields, common = await _read(request, TokenizeFields)

    async def make() -> Response:
        text = fields.text or fields.prompt or fields.content
        ids = await deps_of(request).inference.tokenize(common, text, add_special=fields.add_special)
        return json_reply({"model": fields.model, "tokens": ids})

    return Reply(make)


async def detokenize(request: Request) -> Response:
    """`{"model","tokens"}` → `{"model","text"}`."""
    fields, common = await _read(request, DetokenizeFields)

    async def make() -> Response:
        text = await deps_of(request).inference.detokenize(common, fields.tokens)
        return json_reply({"model": fields.model, "text": text})

    return Reply(make)


async def rerank(request: Request) -> Response:
    """`{"model","query","documents","top_n"?}` → `{"model","results":[{"index","relevance_score"}],…}`."""
    fields, common = await _read(request, RerankFields)

    async def make() -> Response:
        ranking = await deps_of(request).inference.rerank(common, fields.query, fields.documents, fields.top_n)
        warnings = warnings_of(ranking.notices)
        answer = {
            "model": fields.model,
            "results": [{"index": index, "relevance_score": score} for index, score in ranking.results],
            "total_duration": ranking.total_duration_ns,
            "load_duration": ranking.load_duration_ns,
            "prompt_eval_count": ranking.prompt_tokens,
        }
        if isinstance(warnings, list):
            answer["warnings"] = warnings
        return reply_with_warnings(answer, warnings)

    return Reply(make)


async def _read(request: Request, shape: type[T]) -> tuple[T, Common]:
    body = await read_object(request)
    fields = convert(body, shape)
    return fields, common_of(body, fields, caller_of(request))
