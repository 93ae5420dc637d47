"""The one table from exception class to HTTP status, and the native API's error body.

Called by stream.py and app.py, and by the compatibility layers for the status of their own error forms. Texts are
made by the exceptions; unexpected ones are logged and answered without their text, which could name a path.
"""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response

from corral import errors
from corral.api.native_replies import encode

log = logging.getLogger(__name__)

CLIENT_CLOSED = 499  # nginx's number for a client that left, which Ollama uses too

_STATUS: dict[type[BaseException], int] = {
    errors.BodyTooLarge: 413,
    errors.BodyStalled: 408,
    errors.InvalidRequest: 400,
    errors.InvalidGGUF: 400,
    errors.ChatTemplateUnusable: 400,
    errors.DigestMismatch: 400,
    errors.ModelNotFound: 404,
    errors.BlobNotFound: 404,
    errors.RequestNotFound: 404,
    errors.NotKept: 404,
    errors.NodeNotFound: 404,
    errors.NotOffered: 404,
    errors.CloudDisabled: 403,
    errors.RequestCanceled: CLIENT_CLOSED,
    errors.QueueFull: 503,
    errors.BodiesFull: 503,
    errors.GaveWay: 503,
    errors.ServerClosing: 503,
    errors.NoNode: 503,
    errors.NotEnoughSpace: 507,
    errors.CorralError: 500,
}


def status_of(error: BaseException) -> int:
    """The status for an exception, found along its class's ancestors; the engine's own where it gave a usable one."""
    if isinstance(error, errors.EngineError):
        return error.status if 400 <= error.status < 600 else 500
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return 500


def text_of(error: BaseException) -> str:
    """What the caller may read: our own errors' text; anything else is logged and called an internal error."""
    if isinstance(error, errors.CorralError):
        return str(error)
    log.error("unexpected error", exc_info=error)
    return "internal server error"


def headers_of(error: BaseException) -> dict[str, str]:
    """Headers that belong to an error: Retry-After when too much is asked at once; a hint beside a known text."""
    if isinstance(error, errors.QueueFull | errors.BodiesFull):
        return {"Retry-After": str(error.retry_after_s)}
    return {"X-Corral-Hint": error.hint} if isinstance(error, errors.UnsupportedCapability) and error.hint else {}


def error_line(error: BaseException) -> bytes:
    """`{"error": text}`."""
    return encode({"error": text_of(error)})


def error_reply(error: BaseException) -> Response:
    """The native API's answer to an exception."""
    return Response(
        error_line(error), status_of(error), headers_of(error), media_type="application/json; charset=utf-8"
    )


async def handle_error(request: Request, error: Exception) -> Response:
    """Starlette's hook for exceptions that a handler lets through."""
    return error_reply(error)
