"""`create_app`: the whole route table on one screen. Called by serve.py and by tests."""

from __future__ import annotations

import html
import posixpath
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import import_module
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route

from corral.aio import run_blocking
from corral.errors import CorralError
from corral.server import anthropic, distribution, openai
from corral.server.bodyroom import BodyRoom, WithRoom
from corral.server.deps import Deps
from corral.server.errors import handle_error
from corral.server.guard import Guard
from corral.server.native import (
    blobs,
    chat,
    cluster,
    embed,
    generate,
    manage,
    models,
    remote,
    requests,
    show,
    status,
    surface,
    tokens,
    transfers,
    tune,
)

Handler = Callable[[Request], Awaitable[Response]]


def create_app(deps: Deps) -> Starlette:
    """The ASGI app of a server made of `deps`; raises OriginError for a bad entry of the allowed origins."""
    routes: list[BaseRoute] = [
        _route("/", surface.root, "GET", "HEAD"),
        _route("/api/version", surface.version, "GET", "HEAD"),
        _route("/api/status", status.status, "GET"),
        _route("/api/tags", models.tags, "GET", "HEAD"),
        _route("/api/ps", models.ps, "GET"),
        _route("/api/show", show.show, "POST"),
        _route("/api/generate", generate.generate, "POST"),
        _route("/api/chat", chat.chat, "POST"),
        _route("/api/embed", embed.embed, "POST"),
        _route("/api/embeddings", embed.embeddings, "POST"),
        _route("/api/create", transfers.create, "POST"),
        _route("/api/pull", transfers.pull, "POST"),
        _route("/api/push", transfers.push, "POST"),
        _route("/api/copy", manage.copy, "POST"),
        _route("/api/delete", manage.delete, "DELETE"),
        _by_method("/api/blobs/{digest}", HEAD=blobs.head, POST=blobs.upload),
        _route("/api/me", surface.me, "POST"),
        _route("/api/signout", surface.sign_out, "POST"),
        _route("/api/user/keys/{key}", surface.sign_out, "DELETE"),
        _route("/api/experimental/web_search", surface.web_search, "POST"),
        _route("/api/experimental/web_fetch", surface.web_fetch, "POST"),
        _route("/api/experimental/model-recommendations", surface.recommendations, "GET"),
        _route("/api/rerank", tokens.rerank, "POST"),
        _route("/api/tokenize", tokens.tokenize, "POST"),
        _route("/api/detokenize", tokens.detokenize, "POST"),
        _route("/api/tune", tune.tune, "POST"),
        _route("/api/options", status.options, "GET"),
        _route("/api/catalog", remote.catalog, "GET"),
        _route("/api/requests", requests.list_requests, "GET"),
        _route("/api/requests/{id}", requests.cancel_request, "DELETE"),
        _by_method("/api/log-level", GET=requests.read_log_level, PUT=requests.write_log_level),
        _route("/api/cluster", cluster.cluster, "GET"),
        _route("/api/cluster/drain", cluster.drain, "POST"),
        _route("/metrics", requests.metrics, "GET"),
        _route("/ui", _page, "GET", "HEAD"),
        _route("/ui/{name:path}", _page, "GET", "HEAD"),
        *openai.routes,
        *anthropic.routes,
        *(distribution.routes if deps.settings.share else ()),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={404: _not_found, 405: _wrong_method, CorralError: handle_error, Exception: handle_error},
    )
    app.router.redirect_slashes = False
    app.state.bodies = BodyRoom(deps.settings.max_body_bytes)
    app.add_middleware(WithRoom, room=app.state.bodies)
    app.add_middleware(Guard, settings=deps.settings, holders=deps.holders)
    app.state.deps = deps
    Guard(app, deps.settings, deps.holders)  # a bad setting fails here, not at the first request
    return app


def _route(path: str, handler: Handler, *methods: str) -> Route:
    """A route of exactly these methods: Starlette alone would add HEAD to every GET."""
    route = Route(path, handler, methods=list(methods))
    route.methods = set(methods)
    return route


def _by_method(path: str, **handlers: Handler) -> Route:
    """One path whose methods have handlers of their own."""

    async def dispatch(request: Request) -> Response:
        return await handlers[request.method](request)

    return _route(path, dispatch, *handlers)


async def _page(request: Request) -> Response:
    """The page's files; the code that serves them is loaded with the first request for one."""
    module = await run_blocking(import_module, "corral.server.page")
    answer: Response = await module.page(request)
    return answer


async def _not_found(request: Request, error: Exception) -> Response:
    """404 as gin words it, or the way to the path that was meant.

    A path with doubled slashes or dots in it is sent to its clean form, as Go's mux does, by 307; one that has a slash
    too many behind a route of this method by 301 for GET, by 307 else.
    """
    path = request.scope["path"]
    as_sent = request.scope.get("raw_path", path.encode()).decode("latin-1")  # an encoded slash separates nothing
    clean = _clean(as_sent)
    if clean != as_sent:
        return _redirect(request, clean, 307)
    if path.endswith("/") and path != "/" and _is_known(request, path.rstrip("/")):
        return _redirect(request, path.rstrip("/"), 301 if request.method == "GET" else 307)
    return PlainTextResponse("404 page not found", 404)


def _clean(path: str) -> str:
    """The path without empty, `.` and `..` parts; a slash at its end stays. Source: Go net/http cleanPath."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _redirect(request: Request, path: str, status: int) -> Response:
    query = request.scope["query_string"].decode("latin-1")
    location = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
    headers = {"Location": location}
    if request.method not in {"GET", "HEAD"}:
        return Response(status_code=status, headers=headers)
    link = f'<a href="{html.escape(location)}">{HTTPStatus(status).phrase}</a>.\n\n'
    return HTMLResponse(link if request.method == "GET" else "", status, headers)


def _is_known(request: Request, path: str) -> bool:
    scope = {**request.scope, "path": path}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


async def _wrong_method(request: Request, error: Exception) -> Response:
    headers = error.headers if isinstance(error, HTTPException) else None
    return PlainTextResponse("405 method not allowed", 405, headers)
