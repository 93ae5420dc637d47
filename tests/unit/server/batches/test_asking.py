"""A line asked inside the process: what the handler of its endpoint hears of it."""

from __future__ import annotations

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from corral.server.bodyroom import BodyRoom
from corral.server.callers import caller_of
from corral.server.openai.batches.asking import ask

CHAT = "/v1/chat/completions"


async def test_a_line_says_how_often_it_has_given_way_and_how_much_of_its_batch_is_left() -> None:
    async def tell(request: Request) -> Response:
        caller = caller_of(request)
        return JSONResponse([caller.client, caller.priority, caller.given_way, caller.left, await request.json()])

    app = Starlette(routes=[Route(CHAT, tell, methods=["POST"])])
    app.state.bodies = BodyRoom(0)
    answered = await ask(app, None, "batch_1", CHAT, {"model": "tiny"}, 2, 7)
    assert answered.status == 200
    assert msgspec.json.decode(answered.body) == ["batch_1", "batch", 2, 7, {"model": "tiny"}]
