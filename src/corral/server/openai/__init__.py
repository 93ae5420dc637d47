"""OpenAI's API over the same use cases as the native one. `routes` is what app.py mounts."""

from __future__ import annotations

from starlette.routing import Route

from corral.server.openai.chat import chat_completions
from corral.server.openai.completions import completions
from corral.server.openai.embeddings import embeddings
from corral.server.openai.models import list_models, show_model
from corral.server.openai.responses import create_response, delete_response, show_response
from corral.server.openai.wire import refuse_early

routes = [
    Route("/v1/chat/completions", refuse_early(chat_completions), methods=["POST"]),
    Route("/v1/completions", refuse_early(completions), methods=["POST"]),
    Route("/v1/embeddings", refuse_early(embeddings), methods=["POST"]),
    Route("/v1/models", refuse_early(list_models), methods=["GET"]),
    Route("/v1/models/{model}", refuse_early(show_model), methods=["GET"]),
    Route("/v1/responses", refuse_early(create_response), methods=["POST"]),
    Route("/v1/responses/{response}", refuse_early(show_response), methods=["GET"]),
    Route("/v1/responses/{response}", refuse_early(delete_response), methods=["DELETE"]),
]
