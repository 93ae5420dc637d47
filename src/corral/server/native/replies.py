"""What native handlers answer with: JSON, lists of progress lines, the warnings header."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sized
from typing import Any, Protocol

from msgspec import UnsetType
from starlette.requests import Request
from starlette.responses import Response

from corral.api.native_replies import encode, status_line
from corral.core import Event, TransferStatus
from corral.server.answer import Answer
from corral.server.errors import error_line, status_of
from corral.server.stream import EventStream, Reply, collect

JSON = "application/json; charset=utf-8"
WARNINGS_HEADER = "X-Corral-Warnings"


def asks(request: Request, what: str) -> bool:
    """Whether the query asks for something: `?verbose`, `?verbose=1`, not `?verbose=0` or `?verbose=false`."""
    return request.query_params.get(what, "0") not in {"0", "false"}


def json_reply(value: Any, status: int = 200) -> Response:
    """A plain JSON answer."""
    return Response(encode(value), status, media_type=JSON)


def reply_with_warnings(value: Any, warnings: Sized | UnsetType) -> Response:
    """A plain JSON answer whose warnings are counted in a header too."""
    response = json_reply(value)
    if not isinstance(warnings, UnsetType):
        response.headers[WARNINGS_HEADER] = str(len(warnings))
    return response


class Whole(Protocol):
    """A reply made of all events of a run."""

    warnings: Any


def answer_reply(
    events: AsyncIterator[Event],
    *,
    stream: bool,
    chunk: Callable[[Event], object],
    whole: Callable[[Answer], Whole],
) -> Response:
    """The events of a run: a line for each, or one object made of them all."""
    if stream:
        return EventStream(events, lambda event: encode(chunk(event)) + b"\n")

    async def make() -> Response:
        answer = Answer()
        await collect(events, answer.take)
        reply = whole(answer)
        return reply_with_warnings(reply, reply.warnings)

    return Reply(make)


def transfer_reply(events: AsyncIterator[TransferStatus], *, stream: bool) -> Response:
    """Progress lines of pull, push and create; not streaming: the last line alone, or the error with its status."""
    if stream:
        return EventStream(events, lambda status: encode(status_line(status)) + b"\n")

    async def last_line() -> Response:
        seen: list[TransferStatus] = []
        await collect(events, lambda status: _keep_last(seen, status))
        line = status_line(seen[-1]) if seen else {"status": "success"}
        return Response(encode(line), media_type="application/json")

    def refuse(error: BaseException) -> Response:
        return Response(error_line(error), status_of(error), media_type="application/json")

    return Reply(last_line, refuse)


def _keep_last(seen: list[TransferStatus], status: TransferStatus) -> None:
    seen[:] = [status]
