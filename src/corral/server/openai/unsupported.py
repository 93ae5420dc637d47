"""The parts of OpenAI's API that Corral does not have: making images and speech. Answered, so that clients read why."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.errors import NotOffered


async def unsupported(request: Request) -> Response:
    """Raises NotOffered, whatever the body holds."""
    raise NotOffered(request.url.path)
