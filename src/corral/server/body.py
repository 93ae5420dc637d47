"""Request bodies: read within a bound, whatever their content type, unpack zstd, and decode off the loop.

Called by every handler with a body. Source of zstd and its bounds: ollama server/cloud_proxy.go, 2026-08.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import zstandard
from starlette.requests import ClientDisconnect, Request

from corral.aio import run_blocking
from corral.api.bodies import parse_object
from corral.errors import BodyStalled, BodyTooLarge, InvalidRequest, RequestCanceled
from corral.server.bodyroom import share_of
from corral.server.deps import deps_of

P = ParamSpec("P")
T = TypeVar("T")

_DECODE_INLINE_BYTES = 256 * 1024  # decoding so much takes about a millisecond
MAX_UNPACKED_BYTES = 20 * 2**20
_STALL_S = 60.0
_MAX_WINDOW_BYTES = 8 * 2**20  # what a decoder may hold in memory


async def read_body(request: Request, most_bytes: int = 0, *, why: str = "") -> bytes:
    """All bytes of the body, unpacked where it is compressed.

    `most_bytes` is a route's own bound below the server's, `why` what its error says.
    A large one waits for its room. Raises BodyTooLarge (413) as soon as the bound is passed, before reading further;
    BodiesFull (503); InvalidRequest for a compression that is not zstd, for zstd that cannot be read or has over
    MAX_UNPACKED_BYTES, and for texts that no window holds.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity", "zstd"}:
        raise InvalidRequest(f'Content-Encoding "{encoding[:40]}" is not supported: send zstd or none')
    limit = deps_of(request).settings.max_body_bytes
    if most_bytes and most_bytes < limit:
        data = await _read_bounded(request, most_bytes, why)
    else:
        data = await _read_bounded(request, limit, "")
    if encoding == "zstd":
        data = await run_blocking(unpack_zstd, data)
    await share_of(request).settle(data)
    return data


def unpack_zstd(data: bytes) -> bytes:
    """The content of zstd frames; raises InvalidRequest for what is no zstd and for more than MAX_UNPACKED_BYTES."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    try:
        with unpacker.stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            content = reader.read(MAX_UNPACKED_BYTES + 1)
    except zstandard.ZstdError as error:
        raise InvalidRequest("the request body is not valid zstd, or needs too large a window") from error
    if len(content) > MAX_UNPACKED_BYTES:
        raise InvalidRequest(f"the request body unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    return content


async def _read_bounded(request: Request, limit: int, why: str) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge(limit, why)
    chunks: list[bytes] = []
    size, share = 0, share_of(request)
    try:
        async with asyncio.timeout(None) as patience:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(limit, why)
                if share.grow(size):
                    patience.reschedule(asyncio.get_running_loop().time() + _STALL_S)
                chunks.append(chunk)
    except TimeoutError as error:
        raise BodyStalled(_STALL_S) from error
    except ClientDisconnect as error:
        raise RequestCanceled from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_object(request: Request) -> dict[str, Any]:
    """The body's JSON object, which may be large where none is expected; raises InvalidRequest for anything else."""
    return await decode(request, parse_object, await read_body(request))


async def decode(request: Request, decoder: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`decoder(*args, **kwargs)` on the loop for a small body, on the executor for a large one."""
    announced = request.headers.get("content-length", "")
    small = announced.isdecimal() and int(announced) <= _DECODE_INLINE_BYTES
    if not small or request.headers.get("content-encoding"):
        return await run_blocking(decoder, *args, **kwargs)
    return decoder(*args, **kwargs)
