"""POST /api/pull, /api/push, /api/create: progress lines.

Source: ollama server/routes.go, server/create.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from corral.api.bodies import convert, parse_object
from corral.api.native import to_message
from corral.api.native_manage import CreateFields, TransferFields
from corral.core import TransferStatus
from corral.create.request import CreateRequest
from corral.errors import InvalidModelName, InvalidRequest
from corral.names import ModelName
from corral.server.body import decode, read_body, read_object
from corral.server.deps import deps_of
from corral.server.native.replies import transfer_reply
from corral.server.translation import loader, made_ready


async def pull(request: Request) -> Response:
    """Fetch a model from a registry."""
    fields = convert(await read_object(request), TransferFields)
    reference = fields.reference.strip()
    if not reference:
        raise InvalidModelName(reference)
    deps = deps_of(request)
    events = deps.registry.pull(reference, insecure=fields.insecure)
    return transfer_reply(made_ready(events, loader(deps.store, reference), deps.files), stream=fields.stream)


async def push(request: Request) -> Response:
    """Send a model to a registry."""
    fields = convert(await read_object(request), TransferFields)
    reference = fields.reference.strip()
    if not reference:
        raise InvalidRequest("model is required", field="model")
    events = deps_of(request).registry.push(reference, insecure=fields.insecure)
    return transfer_reply(events, stream=fields.stream)


async def create(request: Request) -> Response:
    """Make a model from another, from uploaded files, or from a Modelfile."""
    wanted, stream = await decode(request, decode_create, await read_body(request))
    deps = deps_of(request)
    events: AsyncIterator[TransferStatus] = deps.creator.create(wanted)
    return transfer_reply(made_ready(events, loader(deps.store, wanted.name.full), deps.files), stream=stream)


def decode_create(data: bytes) -> tuple[CreateRequest, bool]:
    """Read a create body, and whether to stream; raises InvalidRequest."""
    fields = convert(parse_object(data), CreateFields)
    wanted = CreateRequest(
        name=ModelName.parse(fields.reference),
        from_=fields.from_,
        files=fields.files,
        adapters=fields.adapters or {},
        draft_files=fields.draft_files or {},
        template=fields.template,
        system=fields.system,
        license=_licenses(fields.license),
        parameters=fields.parameters,
        messages=tuple(to_message(message) for message in fields.messages),
        quantize=fields.quantize or fields.quantization,
        draft_quantize=fields.draft_quantize,
        renderer=fields.renderer,
        parser=fields.parser,
        requires=fields.requires,
        info=fields.info,
        remote_host=fields.remote_host,
        modelfile=fields.modelfile,
        path=fields.path,
    )
    return wanted, fields.stream


def _licenses(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise InvalidRequest("license must be a string or a list of strings", field="license")
