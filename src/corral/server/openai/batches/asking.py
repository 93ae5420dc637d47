"""A line of a batch asked inside this process: by the handler that serves its endpoint, without the network between.

So a line is decoded, checked and answered by the same code as a request, and by none besides.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.types import Message

from corral.server.bodyroom import BodyRoom
from corral.server.callers import BATCH, LEFT
from corral.server.guard import HOLDER
from corral.server.holders import Holder
from corral.server.openai.encoding import encode_json


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP answer. body: JSON, as it would have been sent. later: it says when to ask again."""

    status: int
    body: Any
    later: bool = False


async def ask(
    app: Starlette, holder: Holder | None, batch_id: str, url: str, body: dict[str, Any], given_way: int, left: int
) -> Answered:
    """The answer of a route to a JSON body; cancelling it is what a client does that leaves.

    given_way: how often this line has ended for others; left: lines of its batch without a result.
    """
    data = encode_json(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": url,
        "raw_path": url.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": (batch_id, 0),
        "app": app,
        BATCH: given_way,
        LEFT: left,
    }
    if holder is not None:
        scope[HOLDER] = holder
    sent: list[bytes] = []
    status, later = 500, False
    unread = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        await asyncio.Event().wait()  # it leaves by cancellation only
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status, later
        if message["type"] == "http.response.start":
            status = message["status"]
            later = any(name == b"retry-after" for name, _ in message["headers"])
        else:
            sent.append(message.get("body", b""))

    room: BodyRoom = app.state.bodies
    share = room.enter(scope)
    try:
        await app.router(scope, receive, send)
    finally:
        await room.leave(share)
    return Answered(status, msgspec.Raw(b"".join(sent).strip() or b"null"), later)
