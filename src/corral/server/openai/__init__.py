"""OpenAI's API over the same use cases as the native one. `routes` is what app.py mounts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from corral.server.openai.batches.handlers import cancel_batch, create_batch, list_batches, one_batch
from corral.server.openai.chat import chat_completions
from corral.server.openai.completions import completions
from corral.server.openai.embeddings import embeddings
from corral.server.openai.files.handlers import create_file, file_content, list_files, one_file
from corral.server.openai.models import list_models, show_model
from corral.server.openai.rerank import rerank, system_one
from corral.server.openai.responses.handlers import create_response, kept_response
from corral.server.openai.transcriptions import only_post, transcriptions
from corral.server.openai.unsupported import unsupported
from corral.server.openai.wire import refuse_early

_ANY = ("GET", "POST", "PUT", "PATCH", "DELETE")


def _route(path: str, handler: Callable[[Request], Awaitable[Response]], *methods: str) -> Route:
    route = Route(path, refuse_early(handler), methods=list(methods))
    route.methods = set(methods)  # Starlette alone adds HEAD to every GET
    return route


routes = [
    _route("/v1/chat/completions", chat_completions, "POST"),
    _route("/v1/completions", completions, "POST"),
    _route("/v1/embeddings", embeddings, "POST"),
    _route("/v1/rerank", rerank, "POST"),
    _route("/v1/systemone", system_one, "POST"),
    _route("/v1/models", list_models, "GET"),
    _route("/v1/models/{model:path}", show_model, "GET"),
    _route("/v1/responses", create_response, "POST"),
    _route("/v1/responses/{response}", kept_response, "GET", "DELETE"),
    _route("/v1/files", create_file, "POST"),
    _route("/v1/files", list_files, "GET"),
    _route("/v1/files/{file}", one_file, "GET", "DELETE"),
    _route("/v1/files/{file}/content", file_content, "GET"),
    _route("/v1/batches", create_batch, "POST"),
    _route("/v1/batches", list_batches, "GET"),
    _route("/v1/batches/{batch}", one_batch, "GET"),
    _route("/v1/batches/{batch}/cancel", cancel_batch, "POST"),
    _route("/v1/audio/transcriptions", transcriptions, "POST"),
    _route("/v1/audio/transcriptions", only_post, *(method for method in _ANY if method != "POST")),
    _route("/v1/images/{rest:path}", unsupported, *_ANY),
    _route("/v1/audio/{rest:path}", unsupported, *_ANY),
]
