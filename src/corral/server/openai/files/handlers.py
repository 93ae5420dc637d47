"""`/v1/files`: upload, list, describe, download, delete.

A file belongs to the holder of the key that it was uploaded with; others do not find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from corral.aio import run_blocking
from corral.api.batches import BatchObject, FileObject
from corral.errors import InvalidRequest, NotKept
from corral.server.callers import owner_of
from corral.server.deps import deps_of
from corral.server.openai.encoding import ordered_id
from corral.server.openai.files.store import EXPIRY_S, MAX_FILE_BYTES, FileStore, files_of
from corral.server.openai.files.upload import Upload, read_upload
from corral.server.openai.wire import json_reply

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
_MOST_FILES = 10_000

T = TypeVar("T", FileObject, BatchObject)


async def create_file(request: Request) -> Response:
    """POST: a form with `file`, `purpose` and, if it shall not be kept for ever, `expires_after`."""
    store = _store(request)
    upload = await read_upload(request, store.folder, MAX_FILE_BYTES)
    try:
        purpose, expires_after_s = _purpose(upload), _expires_after_s(upload)

        def add() -> FileObject:
            return store.add(
                ordered_id("file-"), upload.path, name=upload.name, purpose=purpose, expires_after_s=expires_after_s
            )

        return json_reply(await run_blocking(add))
    except BaseException:
        await run_blocking(upload.path.unlink, missing_ok=True)
        raise


def _purpose(upload: Upload) -> str:
    purpose = upload.fields.get("purpose", "")
    if purpose not in PURPOSES:
        raise InvalidRequest(f"'{purpose[:100]}' is not one of {list(PURPOSES)} - 'purpose'", field="purpose")
    return purpose


def _expires_after_s(upload: Upload) -> int:
    """0 = it is kept as long as the server keeps files."""
    sent = upload.fields.get("expires_after[seconds]", "")
    anchor = upload.fields.get("expires_after[anchor]", "created_at")
    if not sent and "expires_after[anchor]" not in upload.fields:
        return 0
    if anchor != "created_at" or not sent.isdecimal() or int(sent) not in EXPIRY_S:
        why = "expires_after has the anchor created_at, and 3600 to 2592000 seconds"
        raise InvalidRequest(why, field="expires_after")
    return int(sent)


async def list_files(request: Request) -> Response:
    """GET: all files, or those of a `purpose`."""
    found = await run_blocking(_store(request).all)
    purpose = request.query_params.get("purpose")
    if purpose:
        found = [file for file in found if file.purpose == purpose]
    if request.query_params.get("order") == "asc":
        found.reverse()
    return page_of(request, "File", found, _MOST_FILES, _MOST_FILES)


async def one_file(request: Request) -> Response:
    """GET: a file's description. DELETE: forget it."""
    wanted, store = request.path_params["file"], _store(request)
    if request.method == "DELETE":
        await run_blocking(store.delete, wanted)
        return json_reply({"id": wanted, "object": "file", "deleted": True})
    return json_reply(await run_blocking(store.get, wanted))


async def file_content(request: Request) -> Response:
    """GET: a file's bytes."""
    store = _store(request)
    path = await run_blocking(store.path, request.path_params["file"])
    return FileResponse(path, media_type="application/octet-stream")


def page_of(request: Request, kind: str, found: Sequence[T], most: int, usual: int) -> Response:
    """A part of a list: behind `after`, at most `limit`. Raises NotKept for an `after` that is not in it."""
    after, sent = request.query_params.get("after", ""), request.query_params.get("limit", str(usual))
    if not (sent.isascii() and sent.isdecimal() and 1 <= int(sent[:9]) <= most):
        raise InvalidRequest(f"limit is a number from 1 to {most}", field="limit")
    ids = [each.id for each in found]
    if after and after not in ids:
        raise NotKept(kind, after[:100])
    rest = found[ids.index(after) + 1 :] if after else found
    part = list(rest[: int(sent)])
    page: dict[str, Any] = {"object": "list", "data": part, "has_more": len(part) < len(rest)}
    page |= {"first_id": part[0].id if part else None, "last_id": part[-1].id if part else None}
    return json_reply(page)


def _store(request: Request) -> FileStore:
    return files_of(deps_of(request).settings, owner_of(request))
