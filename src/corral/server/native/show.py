"""POST /api/show: everything about one model. The body is made by models.py, with `remote` by remote.py."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.api.bodies import convert
from corral.api.native_manage import ShowFields
from corral.errors import CloudDisabled, InvalidRequest, ModelNotFound
from corral.server.body import read_object
from corral.server.deps import Deps, deps_of
from corral.server.native.models import show_body
from corral.server.native.remote import describe
from corral.server.native.replies import asks, json_reply

_COPILOT = "GitHubCopilotChat/"


async def show(request: Request) -> Response:
    """Details, parameters, template, capabilities and tensors of a model."""
    fields = convert(await read_object(request), ShowFields)
    if not fields.reference.strip():
        raise InvalidRequest("model is required", field="model")
    if fields.remote or asks(request, "remote"):
        return json_reply(await describe(deps_of(request), fields.reference.strip(), insecure=fields.insecure))
    copilot = request.headers.get("user-agent", "").startswith(_COPILOT)
    return json_reply(await run_blocking(_read, deps_of(request), fields, fields.reference if copilot else ""))


def _read(deps: Deps, fields: ShowFields, basename: str) -> dict[str, object]:
    try:
        name = deps.store.resolve(fields.reference)
    except CloudDisabled:
        raise CloudDisabled("remote model details are unavailable") from None
    try:
        model = deps.store.load(name)
    except ModelNotFound as error:
        raise ModelNotFound(name.short) from error
    return show_body(model, system=fields.system, options=fields.options, verbose=fields.verbose, basename=basename)
