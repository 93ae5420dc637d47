"""POST /v1/embeddings: texts or token arrays to vectors, as floats or base64."""

from __future__ import annotations

import base64
import struct
from typing import Any

from msgspec import UnsetType
from starlette.requests import Request
from starlette.responses import Response

from corral.api.native_replies import warnings_of
from corral.api.openai import EmbeddingItem, EmbeddingList, EmbeddingRequest, EmbeddingUsage
from corral.core import EmbedRequest
from corral.errors import InvalidRequest
from corral.server.deps import Deps, deps_of
from corral.server.openai.fields import common_of
from corral.server.openai.wire import error_reply, json_reply, read_request
from corral.server.stream import Reply


async def embeddings(request: Request) -> Response:
    """Serve one embeddings request."""
    body, notices = await read_request(request, EmbeddingRequest)
    deps = deps_of(request)
    encoding = (body.encoding_format or "float").lower()
    if encoding not in {"float", "base64"}:
        why = f"Invalid value for 'encoding_format' = {body.encoding_format}. Supported values: ['float', 'base64']."
        raise InvalidRequest(why, field="encoding_format")
    common = common_of(request, body, {}, notices, strict=deps.settings.strict)
    wanted = EmbedRequest(common, read_inputs(body.input), dimensions=body.dimensions or 0)
    return Reply(lambda: _embed(deps, body.model, wanted, encoding), error_reply)


def read_inputs(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """The inputs: a text, texts, token ids, or lists of ids. Raises InvalidRequest with Ollama's texts."""
    if isinstance(value, str):
        return (value,)
    if value is None or value == []:
        raise InvalidRequest("invalid input", field="input")
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return tuple(value)
        if _is_ids(value):
            return (tuple(value),)
        if all(_is_ids(item) and item for item in value):
            return tuple(tuple(item) for item in value)
    raise InvalidRequest("invalid input type", field="input")


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in value)


async def _embed(deps: Deps, model: str, wanted: EmbedRequest, encoding: str) -> Response:
    found = await deps.inference.embed(wanted)
    items = [
        EmbeddingItem(embedding=_base64(vector) if encoding == "base64" else vector, index=index)
        for index, vector in enumerate(found.vectors)
    ]
    usage = EmbeddingUsage(found.prompt_tokens, found.prompt_tokens)
    warnings = warnings_of(found.notices)
    reply = EmbeddingList(data=items, model=model, usage=usage, warnings=warnings)
    return json_reply(reply, 0 if isinstance(warnings, UnsetType) else len(warnings))


def _base64(vector: list[float]) -> str:
    """Little-endian float32 values, in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
