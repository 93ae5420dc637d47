"""`/v2/…`: the reading half of the OCI distribution API over the store, for `serve --share`.

Another Corral, an Ollama or any OCI client pulls from it: `corral pull --insecure http://server:11434/library/smollm2:135m`.
Served are the names of the default registry, a blob only below a name whose manifest lists it; nothing is written.
What is not here may be fetched where it is from, and served while it arrives (relay.py).
Answers and error codes: OCI distribution-spec 1.1, "Pulling manifests" to "Content discovery", 2024-02.

| route                                | answers                                                             |
|--------------------------------------|---------------------------------------------------------------------|
| /v2/                                 | 200: this is such a server                                          |
| /v2/_catalog, /v2/<name>/tags/list   | names, tags; in order, `n` and `last` as the specification has them |
| /v2/<name>/manifests/<tag or digest> | the manifest, byte for byte as it is stored                         |
| /v2/<name>/blobs/<digest>            | the blob, or a range of it                                          |
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from corral.aio import run_blocking
from corral.api.native_replies import encode
from corral.errors import BlobMissing, CorralError, InvalidRequest, ModelDamaged, ModelNotFound
from corral.names import DEFAULT_HOST, DEFAULT_NAMESPACE, Digest, ModelName
from corral.server.deps import deps_of
from corral.store.manifests import MANIFEST_MEDIA_TYPE, Layer, Manifest
from corral.store.models import ModelStore

log = logging.getLogger(__name__)

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?\Z")
_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
_MOST_ENTRIES = 10_000  # of a list in one answer
_BLOB_TYPE = "application/octet-stream"


class NotServed(CorralError):
    """What an OCI client asked for is not here. code: the specification's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def version(request: Request) -> Response:
    """200 wherever this API is."""
    return _json({})


async def catalog(request: Request) -> Response:
    """All names, `namespace/model`."""
    names = await run_blocking(_shared_names, deps_of(request).store)
    return _page(request, "repositories", sorted({name.repository for name in names}))


async def tags(request: Request) -> Response:
    """The tags of a name."""
    model = _model(request)
    names = await run_blocking(_tags_of, deps_of(request).store, model)
    return _page(request, "tags", sorted(name.tag for name in names), name=model.repository)


async def manifest(request: Request) -> Response:
    """By tag or by digest, as stored."""
    found = await _found(request)
    digest = f"sha256:{found.digest_hex}"
    headers = _VERSION | {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
    return Response(found.raw, media_type=MANIFEST_MEDIA_TYPE, headers=headers)


async def blob(request: Request) -> Response:
    """The file, or the asked range of it."""
    store, model, sent = deps_of(request).store, _model(request), request.path_params["digest"]

    def find() -> Digest:
        digest = _digest(sent)
        listed = any(digest in each.digests for each in _manifests(store, model))
        if not listed or not store.blobs.has(digest):
            raise NotServed("BLOB_UNKNOWN", f"{model.repository} has no blob {digest}")
        return digest

    coming = _coming(request, model, sent)
    if coming is not None:
        return _coming_blob(request, model, coming)
    digest = await run_blocking(find)
    headers = _VERSION | {"Docker-Content-Digest": str(digest), "ETag": f'"{digest}"'}
    return _BlobFile(store.blobs.path(digest), media_type=_BLOB_TYPE, headers=headers)


async def _found(request: Request) -> Manifest:
    """The manifest that is asked for, of a model that is here or, where that is allowed, on its way."""
    deps, model, reference = deps_of(request), _model(request), request.path_params["reference"]
    try:
        return await run_blocking(_find, deps.store, model, reference)
    except NotServed:
        name = ModelName.parse_loose(f"{model.repository}:{reference}")
        if not name.is_valid or not deps.relay.allows(name):
            raise
    try:
        return await deps.relay.manifest(name)
    except CorralError as error:
        log.info("%s is not fetched for others: %s", name.short, error)
        raise NotServed("MANIFEST_UNKNOWN", f"{model.repository} has no manifest {reference}") from error


def _coming(request: Request, model: ModelName, sent: str) -> Layer | None:
    """The blob that is asked for, if its model is on its way: until that is here, the store does not share the blob."""
    return deps_of(request).relay.layer(model.repository, _digest(sent))


def _coming_blob(request: Request, model: ModelName, layer: Layer) -> Response:
    """What arrives of a blob, as it arrives; all of it or one range."""
    start, end, status = 0, layer.size, 200
    headers = _VERSION | {"Docker-Content-Digest": str(layer.digest), "ETag": f'"{layer.digest}"'}
    found = _RANGE.match(request.headers.get("range", ""))
    if found is not None and int(found[1]) < layer.size:
        start, end = int(found[1]), min(layer.size, int(found[2] or layer.size) + 1)
        status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{layer.size}"
    headers |= {"Content-Length": str(max(0, end - start)), "Accept-Ranges": "bytes"}
    if request.method == "HEAD":
        return Response(None, status, headers, _BLOB_TYPE)
    pieces = deps_of(request).relay.stream(model.repository, layer, start, end)
    return StreamingResponse(pieces, status, headers, _BLOB_TYPE)


class _BlobFile(FileResponse):
    """Gigabytes: read in larger pieces than pages are."""

    chunk_size = 2**20


def _model(request: Request) -> ModelName:
    """The name in a path; its tag means nothing."""
    sent = request.path_params["name"]
    model = ModelName.parse_loose(sent if "/" in sent else f"{DEFAULT_NAMESPACE}/{sent}")
    if not model.is_valid or model.host != DEFAULT_HOST or ":" in sent:
        raise NotServed("NAME_INVALID", "a name is 'namespace/model'")
    return model


def _shared_names(store: ModelStore) -> list[ModelName]:
    return [name for name in store.manifests.names() if name.host.lower() == DEFAULT_HOST]


def _tags_of(store: ModelStore, model: ModelName) -> list[ModelName]:
    names = [name for name in _shared_names(store) if name.repository.lower() == model.repository.lower()]
    if not names:
        raise NotServed("NAME_UNKNOWN", f"{model.repository} is not here")
    return names


def _manifests(store: ModelStore, model: ModelName) -> list[Manifest]:
    """Those of all tags that can be read."""
    found = []
    for name in _tags_of(store, model):
        try:
            found.append(store.manifests.read(name))
        except (ModelNotFound, ModelDamaged):  # deleted meanwhile; what is damaged is told elsewhere
            continue
    return found


def _find(store: ModelStore, model: ModelName, reference: str) -> Manifest:
    try:
        if reference.startswith("sha256:"):
            wanted = str(_digest(reference)).removeprefix("sha256:")
            return next(each for each in _manifests(store, model) if each.digest_hex == wanted)
        name = ModelName.parse(f"{model.repository}:{reference}")
        return store.manifests.read(store.manifests.resolve(name))
    except (StopIteration, InvalidRequest, ModelNotFound, ModelDamaged, BlobMissing) as error:
        raise NotServed("MANIFEST_UNKNOWN", f"{model.repository} has no manifest {reference}") from error


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidRequest as error:
        raise NotServed("DIGEST_INVALID", "a digest is 'sha256:' and 64 hexadecimal digits") from error


def _page(request: Request, key: str, entries: Sequence[str], **more: str) -> Response:
    """A part of a sorted list: behind `last`, at most `n`, with a link to the next part."""
    last, sent = request.query_params.get("last", ""), request.query_params.get("n", "")
    count = min(int(sent), _MOST_ENTRIES) if sent.isascii() and sent.isdecimal() and len(sent) < 9 else _MOST_ENTRIES
    rest = [entry for entry in entries if entry > last]
    part = rest[:count]
    response = _json({**more, key: part})
    if part and len(part) < len(rest):
        response.headers["Link"] = f'<{request.url.path}?n={count}&last={part[-1]}>; rel="next"'
    return response


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(encode(document), status, headers=_VERSION, media_type="application/json")


Handler = Callable[[Request], Awaitable[Response]]


def _route(path: str, handler: Handler) -> Route:
    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except NotServed as error:
            return _json({"errors": [{"code": error.code, "message": str(error)}]}, 404)

    return Route(path, answered, methods=["GET", "HEAD"])


routes = [
    _route("/v2/", version),
    _route("/v2/_catalog", catalog),
    _route("/v2/{name:path}/tags/list", tags),
    _route("/v2/{name:path}/manifests/{reference}", manifest),
    _route("/v2/{name:path}/blobs/{digest}", blob),
]
