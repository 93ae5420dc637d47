"""Bodies of multipart/form-data, as browsers and SDKs send files: fields and files, each bounded, all in memory.

The parts are told apart by python-multipart; ADR 16. Called by handlers that take files, off the loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header
from starlette.requests import Request

from corral.errors import InvalidRequest

MAX_PARTS = 64
MAX_FIELD_BYTES = 256 * 1024
_KIND = b"multipart/form-data"
_LIST_SUFFIX = "[]"


@dataclass
class Form:
    """A form's parts by name. Of several of one name the last counts; names that end in `[]` are lists."""

    fields: dict[str, str | list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    _parts: int = 0

    def add_field(self, part: Field) -> None:
        """Add a text; raises FormParserError when it is too long."""
        self._count()
        value = part.value or b""
        if len(value) > MAX_FIELD_BYTES:
            raise FormParserError(f"a field is longer than {MAX_FIELD_BYTES} bytes")
        name, text = _text(part.field_name), value.decode("utf-8", "replace")
        if name.endswith(_LIST_SUFFIX):
            cast("list[str]", self.fields.setdefault(name.removesuffix(_LIST_SUFFIX), [])).append(text)
        else:
            self.fields[name] = text

    def add_file(self, part: File) -> None:
        """Add a file's bytes."""
        self._count()
        part.file_object.seek(0)
        self.files[_text(part.field_name)] = part.file_object.read()
        part.close()

    def _count(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FormParserError(f"it has more than {MAX_PARTS} parts")


def is_form(request: Request) -> bool:
    """Whether the body says that it is a form."""
    return parse_options_header(request.headers.get("content-type", ""))[0] == _KIND


def parse_form(content_type: str, data: bytes) -> Form:
    """The parts of a form; raises InvalidRequest saying what is wrong with it. Blocking for large ones."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _broken("its Content-Type names no boundary")
    form, ended = Form(), []
    try:
        parser = FormParser(
            _KIND.decode(),
            form.add_field,
            form.add_file,
            on_end=lambda: ended.append(True),
            boundary=boundary,
            config={"MAX_MEMORY_FILE_SIZE": len(data) + 1},
        )
        parser.write(data)
        parser.finalize()
    except FormParserError as error:
        raise _broken(str(error)) from error
    if not ended:
        raise _broken("it is cut short")
    return form


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")


def _broken(why: str) -> InvalidRequest:
    return InvalidRequest(f"failed to parse multipart form: {why}")
