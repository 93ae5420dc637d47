"""POST /api/copy, DELETE /api/delete. Source: ollama server/routes.go, server/images.go CopyModel, 2026-08."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.api.bodies import convert
from corral.api.native_manage import CopyFields, NamedFields
from corral.errors import InvalidRequest, ModelNotFound
from corral.goquote import quote
from corral.names import ModelName, split_source
from corral.server.body import read_object
from corral.server.deps import deps_of


async def copy(request: Request) -> Response:
    """Give a model a second name; only the manifest is copied."""
    fields = convert(await read_object(request), CopyFields)
    store = deps_of(request).store
    source = _existing(fields.source, "source")
    destination = _existing(fields.destination, "destination")

    def perform() -> None:
        found, target = store.manifests.resolve(source), store.manifests.resolve(destination)
        if found != target:
            store.copy(found, target)

    try:
        await run_blocking(perform)
    except ModelNotFound as error:
        raise ModelNotFound(fields.source, f"model {quote(fields.source)} not found") from error
    return Response()


async def delete(request: Request) -> Response:
    """Remove a name, and the blobs that no other name uses. A loaded runner keeps running."""
    fields = convert(await read_object(request), NamedFields)
    sent = fields.reference
    if not sent.strip():
        raise InvalidRequest("model is required", field="model")
    store = deps_of(request).store

    source = split_source(sent)
    # Ollama removes cloud models too, under the name their stub was pulled as.
    stub = "-cloud" if ":" in source.name.rpartition("/")[2] else ":cloud"
    name = ModelName.parse(
        source.name + stub if source.source == "cloud" else source.name, f"name {quote(sent)} is invalid"
    )

    def perform() -> None:
        store.delete(store.manifests.resolve(name))

    try:
        await run_blocking(perform)
    except ModelNotFound as error:
        raise ModelNotFound(sent) from error
    return Response()


def _existing(text: str, role: str) -> ModelName:
    return ModelName.parse(text, f"{role} {quote(text)} is invalid")
