"""GET /v1/models and /v1/models/{model}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.api.openai import ModelItem, ModelList
from corral.errors import ModelNotFound
from corral.server.deps import deps_of
from corral.server.openai.wire import json_reply
from corral.store.models import Model


async def list_models(request: Request) -> Response:
    """All models, newest first."""
    found = await run_blocking(deps_of(request).store.list)
    items = [ModelItem(model.name.short, int(model.modified_at.timestamp()), model.name.namespace) for model in found]
    return json_reply(ModelList(items))


async def show_model(request: Request) -> Response:
    """One model; its id is the name as asked for."""
    wanted = request.path_params["model"]
    store = deps_of(request).store

    def load() -> Model:
        name = store.resolve(wanted)
        try:
            return store.load(name)
        except ModelNotFound as error:
            raise ModelNotFound(name.short) from error

    model = await run_blocking(load)
    return json_reply(ModelItem(wanted, int(model.modified_at.timestamp()), model.name.namespace))
