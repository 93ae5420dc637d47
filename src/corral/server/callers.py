"""Who asks: the `Caller` of a request, for fairness and GET /api/requests. Called by every handler of model work."""

from __future__ import annotations

from typing import Literal

from starlette.requests import Request

from corral.core import Caller
from corral.server.guard import HOLDER
from corral.server.holders import Holder

BATCH = "corral.batch"  # scope entry of a line of a batch: how often it has given way; no client can set it
LEFT = "corral.batch.left"  # beside it: how many lines of the batch have no result yet


def caller_of(request: Request) -> Caller:
    """The client by its API key, else by its address; `X-Corral-Priority: background` is honoured."""
    holder: Holder | None = request.scope.get(HOLDER)
    client = holder.name if holder else request.client.host if request.client else ""
    given_way, left = request.scope.get(BATCH, 0), request.scope.get(LEFT, 0)
    return Caller(client, request.url.path, _priority(request), owner_of(request), given_way, left)


def _priority(request: Request) -> Literal["interactive", "background", "batch"]:
    if BATCH in request.scope:
        return "batch"
    background = request.headers.get("x-corral-priority", "").lower() == "background"
    return "background" if background else "interactive"


def owner_of(request: Request) -> str:
    """Whose key was shown, as `Caller.owner`."""
    holder: Holder | None = request.scope.get(HOLDER)
    return holder.id if holder else ""
