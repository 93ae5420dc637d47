"""Anthropic's Messages API over the same use cases as the native one. `routes` is what app.py mounts."""

from __future__ import annotations

from starlette.routing import Route

from corral.server.anthropic.handlers import count_tokens, messages

routes = [
    Route("/v1/messages", messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
]
