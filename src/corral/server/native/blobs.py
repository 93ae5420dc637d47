"""HEAD and POST /api/blobs/{digest}: uploads of files for create, streamed to disk.

Source: ollama server/routes.go HeadBlobHandler, CreateBlobHandler, 2026-08.
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.errors import BlobNotFound, DigestMismatch, RequestCanceled
from corral.goquote import quote
from corral.names import Digest
from corral.server.deps import deps_of
from corral.store.blobs import BlobWriter

_WRITE_BYTES = 2**20  # hash and write about so much per step on the executor


async def head(request: Request) -> Response:
    """200 when the blob is there, else 404."""
    sent = request.path_params["digest"]
    digest = Digest.parse(sent)
    if not await run_blocking(deps_of(request).store.blobs.has, digest):
        raise BlobNotFound(sent, f"blob {quote(sent)} not found")
    return Response()


async def upload(request: Request) -> Response:
    """Store the body under its digest: 201; 200, unread, when it is already there; 400 when it is something else."""
    sent = request.path_params["digest"]
    digest = Digest.parse(sent)
    blobs = deps_of(request).store.blobs
    if await run_blocking(blobs.has, digest) and sent in {str(digest), digest.filename}:
        await run_blocking(blobs.touch, digest)
        return Response()
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() else None
    try:
        stored = await _receive(request, blobs.writer(digest, size))
    except ClientDisconnect as error:
        raise RequestCanceled from error
    except DigestMismatch as error:
        raise DigestMismatch(sent, error.got) from error
    if sent != str(stored):  # an upload under `sha256-` or in capitals is refused, as Ollama does
        raise DigestMismatch(sent, str(stored))
    return Response(status_code=201)


async def _receive(request: Request, writer: BlobWriter) -> Digest:
    """Write the body as it comes; what was written is deleted when the client leaves or the digest is another."""
    await run_blocking(writer.__enter__)
    try:
        pending = bytearray()
        async for chunk in request.stream():
            pending += chunk
            if len(pending) >= _WRITE_BYTES:
                await run_blocking(writer.write, bytes(pending))
                pending.clear()
        await run_blocking(writer.write, bytes(pending))
        return await run_blocking(writer.commit)
    finally:
        await run_blocking(writer.__exit__, None, None, None)
