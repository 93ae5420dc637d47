"""GET /v1/models and /v1/models/{model}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.api.openai import ModelItem, ModelList
from corral.errors import ModelNotFound
from corral.server.deps import deps_of
from corral.server.openai.wire import json_reply
from corral.store.models import Model, ModelSummary


async def list_models(request: Request) -> Response:
    """All models, newest first."""
    found = await run_blocking(deps_of(request).store.list)
    return json_reply(ModelList(data=[_item(model.name.short, model) for model in found]))


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
    return json_reply(_item(wanted, model))


def _item(model_id: str, model: Model | ModelSummary) -> ModelItem:
    return ModelItem(id=model_id, created=int(model.modified_at.timestamp()), owned_by=model.name.namespace)
