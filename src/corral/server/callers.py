"""Who asks: the `Caller` of a request, for fairness and GET /api/requests. Called by every handler of model work."""

from __future__ import annotations

from starlette.requests import Request

from corral.core import Caller
from corral.server.guard import HOLDER
from corral.server.holders import Holder


def caller_of(request: Request) -> Caller:
    """The client by its API key, else by its address; `X-Corral-Priority: background` is honoured."""
    holder: Holder | None = request.scope.get(HOLDER)
    client = holder.name if holder else request.client.host if request.client else ""
    background = request.headers.get("x-corral-priority", "").lower() == "background"
    return Caller(client, request.url.path, "background" if background else "interactive", owner_of(request))


def owner_of(request: Request) -> str:
    """Whose key was shown, as `Caller.owner`."""
    holder: Holder | None = request.scope.get(HOLDER)
    return holder.id if holder else ""
