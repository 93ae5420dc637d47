"""`/v1/batches`: make one of a file, list, look at one, cancel one."""

from __future__ import annotations

from typing import cast

from msgspec import UNSET
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from corral.api.batches import BatchObject, BatchRequest
from corral.api.native_replies import warnings_of
from corral.server.callers import owner_of
from corral.server.deps import deps_of
from corral.server.openai.batches.lane import BatchLane
from corral.server.openai.files.handlers import page_of
from corral.server.openai.wire import json_reply, read_request

_MOST, _USUAL = 100, 20  # of a list, as OpenAI has it


async def create_batch(request: Request) -> Response:
    """POST: a batch over an uploaded file."""
    wanted, notices = await read_request(request, BatchRequest)
    reply = json_reply(_sent(await _lane(request).create(owner_of(request), wanted)))
    if notices:
        reply.headers["X-Corral-Warnings"] = str(len(cast("list[object]", warnings_of(notices))))
    return reply


async def list_batches(request: Request) -> Response:
    """GET: the newest first."""
    found = await _lane(request).all(owner_of(request))
    return page_of(request, "Batch", [_sent(each) for each in found], _MOST, _USUAL)


async def one_batch(request: Request) -> Response:
    """GET: a batch as it is now."""
    return json_reply(_sent(await _lane(request).get(owner_of(request), request.path_params["batch"])))


async def cancel_batch(request: Request) -> Response:
    """POST: ask no more of its lines."""
    return json_reply(_sent(await _lane(request).cancel(owner_of(request), request.path_params["batch"])))


def _sent(batch: BatchObject) -> BatchObject:
    return replace(batch, output_expires_after=UNSET)


def _lane(request: Request) -> BatchLane:
    return deps_of(request).batches
