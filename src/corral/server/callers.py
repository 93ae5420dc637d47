"""Who asks: the `Caller` of a request, for fairness and GET /api/requests. Called by every handler of model work."""

from __future__ import annotations

from starlette.requests import Request

from corral.core import Caller
from corral.server.guard import CLIENT_KEY


def caller_of(request: Request) -> Caller:
    """The client by its API key (a digest of it), else by its address; `X-Corral-Priority: background` is honoured."""
    key = request.scope.get(CLIENT_KEY)
    client = f"key:{key}" if key else request.client.host if request.client else ""
    background = request.headers.get("x-corral-priority", "").lower() == "background"
    return Caller(client, request.url.path, "background" if background else "interactive")
