"""OpenAI's wire shapes of files and batches. A field with `UNSET` as its value is left out; times are Unix seconds.

Source: the types of openai-python 2, `FileObject`, `Batch`, `BatchError`, 2026-08.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class FileObject(msgspec.Struct, kw_only=True):
    """A file that was uploaded, or that a batch has written."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int | UnsetType = UNSET
    filename: str
    purpose: str
    status: str = "processed"


class ExpiresAfter(msgspec.Struct):
    """`expires_after` of a file: so many seconds after its `anchor`, which is when it was made."""

    anchor: str = "created_at"
    seconds: int = 0


class BatchRequest(msgspec.Struct, kw_only=True):
    """POST /v1/batches."""

    input_file_id: str = ""
    endpoint: str = ""
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class RequestCounts(msgspec.Struct):
    """Lines of a batch; failed ones have an error or a status other than 200."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchError(msgspec.Struct):
    """What is wrong with a batch's input. line: counted from 1; None = the file as a whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(msgspec.Struct):
    """The first of them."""

    object: str = "list"
    data: list[BatchError] = []


class BatchObject(msgspec.Struct, kw_only=True):
    """A batch, as it is sent and as it is kept."""

    id: str
    object: str = "batch"
    endpoint: str
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    output_expires_after: ExpiresAfter | UnsetType | None = UNSET  # kept, not sent: OpenAI's has no such field
    request_counts: RequestCounts = msgspec.field(default_factory=RequestCounts)
    metadata: dict[str, str] | None = None


class LineAnswer(msgspec.Struct):
    """`response` of a result: the HTTP answer that the line's request would have had."""

    status_code: int
    request_id: str
    body: Any


class LineError(msgspec.Struct):
    """`error` of a result: why the line was not asked. line: counted from 1 (ours)."""

    code: str
    message: str
    line: int


class LineResult(msgspec.Struct):
    """A line of an output or error file."""

    id: str
    custom_id: str | None
    response: LineAnswer | None
    error: LineError | None
