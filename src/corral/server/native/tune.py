"""POST /api/tune: ours; measures the launch settings of a model and remembers the best. Progress lines as pull's."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from corral.api.bodies import convert
from corral.api.native_manage import TransferFields
from corral.server.body import read_object
from corral.server.deps import deps_of
from corral.server.native.replies import transfer_reply


async def tune(request: Request) -> Response:
    """`{"model","stream"?}` → lines `measuring: …`, `chosen: …`, `success`."""
    fields = convert(await read_object(request), TransferFields)
    return transfer_reply(deps_of(request).tuning.measure(fields.reference), stream=fields.stream)
