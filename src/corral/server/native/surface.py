"""The small fixed answers: /, /api/version, and the cloud's routes, which say that it is disabled."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from corral.errors import CloudDisabled
from corral.server.deps import deps_of
from corral.server.native.replies import json_reply


async def root(request: Request) -> Response:
    """The sign of life that clients look for, word for word."""
    return PlainTextResponse("Ollama is running")


async def version(request: Request) -> Response:
    """The server's version."""
    return json_reply({"version": deps_of(request).version})


async def me(request: Request) -> Response:
    """Who is signed in: nobody, there is nowhere to sign in to."""
    return json_reply({"error": "unauthorized"}, 401)


async def sign_out(request: Request) -> Response:
    """Sign out: nobody is signed in."""
    return json_reply({"error": "you are not currently signed in"}, 401)


async def web_search(request: Request) -> Response:
    """A cloud feature."""
    raise CloudDisabled("web search is unavailable")


async def web_fetch(request: Request) -> Response:
    """A cloud feature."""
    raise CloudDisabled("web fetch is unavailable")


async def recommendations(request: Request) -> Response:
    """Models to recommend: the cloud's list is not asked for."""
    return json_reply({"recommendations": []})
