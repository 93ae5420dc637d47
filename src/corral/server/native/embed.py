"""POST /api/embed and the older /api/embeddings.

Source: ollama server/routes.go EmbedHandler, EmbeddingsHandler, 2026-08.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.api.native import decode_embed, decode_embeddings
from corral.api.native_replies import warnings_of
from corral.core import Embeddings, EmbedRequest
from corral.server.body import decode, read_body
from corral.server.callers import caller_of
from corral.server.deps import deps_of
from corral.server.native.replies import json_reply, reply_with_warnings
from corral.server.stream import Reply

_INLINE_VALUES = 2048  # printing a float32 takes over a microsecond


async def embed(request: Request) -> Response:
    """Vectors of one or many texts; values print as the shortest text of their 32 bits."""
    wanted = await decode(request, decode_embed, await read_body(request), caller_of(request))

    async def make() -> Response:
        result = await deps_of(request).inference.embed(wanted)
        values = await _float32_lists(result.vectors)
        warnings = warnings_of(result.notices)
        return reply_with_warnings(_embed_body(wanted, result, values) | _unless_unset(warnings), warnings)

    return Reply(make)


async def embeddings(request: Request) -> Response:
    """One vector of one text, in the older form: nothing beside it, values as float64."""
    wanted = await decode(request, decode_embeddings, await read_body(request), caller_of(request))

    async def make() -> Response:
        result = await deps_of(request).inference.embed(wanted)
        return json_reply({"embedding": result.vectors[0] if result.vectors else []})

    return Reply(make)


def _embed_body(wanted: EmbedRequest, result: Embeddings, values: msgspec.Raw) -> dict[str, object]:
    body: dict[str, object] = {"model": wanted.common.model, "embeddings": values}
    counts = {
        "total_duration": result.total_duration_ns,
        "load_duration": result.load_duration_ns,
        "prompt_eval_count": result.prompt_tokens,
    }
    return body | {name: value for name, value in counts.items() if value}


def _unless_unset(warnings: object) -> dict[str, object]:
    return {} if warnings is UNSET else {"warnings": warnings}


async def _float32_lists(vectors: Sequence[Sequence[float]]) -> msgspec.Raw:
    if sum(len(vector) for vector in vectors) <= _INLINE_VALUES:
        return format_float32_lists(vectors)
    return await run_blocking(format_float32_lists, vectors)


def format_float32_lists(vectors: Sequence[Sequence[float]]) -> msgspec.Raw:
    """JSON of `[n][n_embd]` values, each the shortest text that reads back as the same float32."""
    rows = (b",".join(np.asarray(vector, dtype=np.float32).astype("S").tolist()) for vector in vectors)
    return msgspec.Raw(b"[" + b",".join(b"[" + row + b"]" for row in rows) + b"]")
