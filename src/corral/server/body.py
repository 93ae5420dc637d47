"""Request bodies: read within a bound, whatever their content type, and decode without holding up the loop.

Called by every handler with a body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.requests import ClientDisconnect, Request

from corral.aio import run_blocking
from corral.errors import BodyTooLarge, RequestCanceled
from corral.server.deps import deps_of

P = ParamSpec("P")
T = TypeVar("T")

_DECODE_INLINE_BYTES = 256 * 1024  # decoding so much takes about a millisecond


async def read_body(request: Request) -> bytes:
    """All bytes of the body; raises BodyTooLarge (413) as soon as the bound is passed, before reading further."""
    limit = deps_of(request).settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(limit)
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise RequestCanceled from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def decode(request: Request, decoder: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`decoder(*args, **kwargs)` on the loop for a small body, on the executor for a large one."""
    if any(isinstance(arg, bytes) and len(arg) > _DECODE_INLINE_BYTES for arg in args):
        return await run_blocking(decoder, *args, **kwargs)
    return decoder(*args, **kwargs)
