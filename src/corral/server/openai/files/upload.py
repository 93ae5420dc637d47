"""A form with one large file, read while it arrives: the file goes to the disk. For POST /v1/files.

`server/form.py` reads forms that fit in memory; this one takes 200 MB in pieces of a megabyte. The parts are told apart
by python-multipart (ADR 16).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from corral.aio import run_blocking, run_settled
from corral.errors import BodyTooLarge, InvalidRequest, RequestCanceled
from corral.server.openai.files.private import new_temporary
from corral.store.files import full_disk_as_error

_PIECE_BYTES = 2**20
_MAX_FIELDS = 16
_MAX_PARTS = 64  # of any name; each takes far longer than its bytes
_MAX_FIELD_BYTES = 1024


@dataclass
class Upload:
    """A form's fields, and the file that is written to `path`; whoever has it deletes or renames that."""

    path: Path
    name: str = ""
    size: int = 0
    fields: dict[str, str] = field(default_factory=dict)


class FormReader:
    """Feeds a form's bytes to an Upload. Blocking."""

    def __init__(self, content_type: str, folder: Path, max_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("a file is sent as multipart/form-data, with a boundary", field="file")
        self._max_bytes = max_bytes
        self._headers: dict[str, str] = {}
        self._header = self._value = b""
        self._field = ""  # the part that is being read; "" = none that is wanted
        self._in_file = self._has_file = self._ended = False
        self._text = b""
        self._parts = 0
        try:
            self._parser = MultipartParser(options[b"boundary"], self._callbacks())
        except FormParserError as error:
            raise _broken(error) from error
        path, self._file = new_temporary(folder)
        self.upload = Upload(path)

    def _callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._take_header,
            "on_header_value": self._take_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def feed(self, data: bytes) -> None:
        """Take a piece; raises InvalidRequest, BodyTooLarge, NotEnoughSpace."""
        try:
            with full_disk_as_error(self.upload.path.parent):
                self._parser.write(data)
        except FormParserError as error:
            raise _broken(error) from error

    def close(self) -> None:
        """The form has ended; raises InvalidRequest when it is cut short or has no file."""
        self._file.close()
        if not self._ended:
            raise _broken("it is cut short")
        if not self._has_file:
            raise InvalidRequest("'file' is a required property", field="file")

    def abandon(self) -> None:
        """Delete what was written."""
        self._file.close()
        self.upload.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _broken(f"it has more than {_MAX_PARTS} parts")
        self._headers, self._header, self._value, self._text = {}, b"", b"", b""
        self._field, self._in_file = "", False

    def _take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._header = self._value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._field == "file" and not self._has_file
        if self._in_file:
            self._has_file = True
            self.upload.name = options.get(b"filename", b"").decode("utf-8", "replace")

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.upload.size += end - start
            if self.upload.size > self._max_bytes:
                raise BodyTooLarge(self._max_bytes, f"a file may have at most {self._max_bytes} bytes")
            self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MAX_FIELD_BYTES:
            raise InvalidRequest(f"a field of the form is longer than {_MAX_FIELD_BYTES} bytes", field="file")

    def _end(self) -> None:
        if self._field and not self._in_file:
            self.upload.fields[self._field] = self._text.decode("utf-8", "replace")
        if len(self.upload.fields) > _MAX_FIELDS:
            raise InvalidRequest(f"a form may have at most {_MAX_FIELDS} fields", field="file")

    def _finish(self) -> None:
        self._ended = True


def _broken(why: object) -> InvalidRequest:
    return InvalidRequest(f"failed to parse multipart form: {why}", field="file")


async def read_upload(request: Request, folder: Path, max_bytes: int) -> Upload:
    """The form of a request, its file in `folder` under a temporary name.

    Raises InvalidRequest, BodyTooLarge, NotEnoughSpace, RequestCanceled when the client leaves; nothing is left then.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes + _PIECE_BYTES:
        raise BodyTooLarge(max_bytes, f"a file may have at most {max_bytes} bytes")
    reader = await run_blocking(FormReader, request.headers.get("content-type", ""), folder, max_bytes)
    try:
        received = 0
        async for piece in _pieces(request):
            received += len(piece)
            if received > max_bytes + _PIECE_BYTES:  # what is no file does not count there
                raise BodyTooLarge(max_bytes, f"a form may have at most {max_bytes + _PIECE_BYTES} bytes")
            await run_settled(reader.feed, piece)
        await run_settled(reader.close)
    except BaseException:
        await run_settled(reader.abandon)
        raise
    return reader.upload


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body, in pieces of about a megabyte."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size >= _PIECE_BYTES:
                yield b"".join(chunks)
                chunks, size = [], 0
    except ClientDisconnect as error:
        raise RequestCanceled from error
    yield b"".join(chunks)
