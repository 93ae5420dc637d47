"""What every OpenAI route does the same way: read a body, answer an error, frame and keep alive a stream."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from corral.api.bodies import convert, parse_object, unknown_notices
from corral.api.openai import ErrorBody, ErrorReply
from corral.core import Notice
from corral.errors import ContextOverflow, InvalidRequest
from corral.server.body import decode, read_body
from corral.server.errors import headers_of, status_of, text_of
from corral.server.openai.encoding import encode_json

S = TypeVar("S", bound=msgspec.Struct)
E = TypeVar("E")

OVERFLOW_CODE = "context_length_exceeded"
_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


async def read_request(request: Request, shape: type[S]) -> tuple[S, tuple[Notice, ...]]:
    """The checked body, and notices of fields nobody knows. Raises InvalidRequest."""
    value = await read_object(request)
    return convert(value, shape), unknown_notices(value, shape)


async def read_object(request: Request) -> dict[str, Any]:
    """The body as plain data. Raises InvalidRequest; an empty body says `EOF`."""
    data = await read_body(request)
    if not data.strip():
        raise InvalidRequest("EOF")
    return await decode(request, parse_object, data)


def error_reply(error: BaseException) -> Response:
    """An error in OpenAI's form, with the status of the native API."""
    status = status_of(error)
    return Response(_error_json(error, status) + b"\n", status, headers_of(error), media_type="application/json")


def error_event(error: BaseException) -> bytes:
    """An error in the middle of a stream, as the SDKs understand it; no [DONE] follows."""
    return frame(_error_json(error, status_of(error)))


def _error_json(error: BaseException, status: int) -> bytes:
    body = ErrorBody(openai_text(error), _TYPES.get(status, "api_error"), code=code_of(error))
    return encode_json(ErrorReply(body))


def code_of(error: BaseException) -> str | None:
    """The code by which clients know an error: of a prompt that is too long, else none."""
    return OVERFLOW_CODE if isinstance(error, ContextOverflow) else None


def openai_text(error: BaseException) -> str:
    """An error's text; of a prompt that is too long in the words by which clients know to compact."""
    if not isinstance(error, ContextOverflow):
        return text_of(error)
    most = f"This model's maximum context length is {error.context_window} tokens"
    long = f"prompt is too long: {error.prompt_tokens:d} tokens > {error.maximum} maximum"
    return f"{most}, and the {long}; {error.remedy}"


def json_reply(value: Any, warnings: int = 0) -> Response:
    """A successful answer; the number of its warnings also as a header."""
    headers = {"X-Corral-Warnings": str(warnings)} if warnings else None
    return Response(encode_json(value) + b"\n", headers=headers, media_type="application/json")


def frame(data: bytes, event: str = "") -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + data + b"\n\n"


def comment_ping() -> bytes:
    """A comment line, which every SSE client skips."""
    return b": ping\n\n"


async def with_pings(
    frames: AsyncIterator[bytes], every_s: float, ping: Callable[[], bytes] = comment_ping
) -> AsyncIterator[bytes]:
    """The frames, and a ping whenever there was none for `every_s`. Closes `frames` when the reader stops early.

    The first ping commits the answer's status; an error after it reaches the client as an event.
    """
    async with aclosing(cast("Any", frames)) as source:
        pending: asyncio.Future[bytes] | None = None
        try:
            while True:
                pending = pending or asyncio.ensure_future(anext(source))
                done, _ = await asyncio.wait({pending}, timeout=every_s if math.isfinite(every_s) else None)
                if not done:
                    yield ping()
                    continue
                result, pending = pending, None
                try:
                    piece = result.result()
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.gather(pending, return_exceptions=True)


def refuse_early(build: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler so that an error before it has a response is answered in OpenAI's form."""

    async def handler(request: Request) -> Response:
        try:
            return await build(request)
        except Exception as error:  # noqa: BLE001  the edge of the request: every error becomes its answer
            return error_reply(error)

    handler.__name__ = build.__name__
    return handler
