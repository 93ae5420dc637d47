"""`CreateRequest`: what a create call asks for, whatever form it came in; and the checks that need no file.

The server fills it from JSON; the guide's `modelfile` text is merged in here. Texts and order of the checks:
ollama server/create.go CreateHandler, 2026-08.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from corral.core import Message, Notice
from corral.create.mixture import parse_file_type
from corral.errors import InvalidRequest, QuantizationError
from corral.names import Digest, ModelName
from corral.options import validate
from corral.store.modelfile import CreateFields, parse_modelfile

_TEXT_INFO = ("model_family", "base_name", "quantization_level", "parameter_size")
_NUMBER_INFO = ("context_length", "embedding_length")
_LARGEST_INT = 2**63 - 1
_NOT_IN_URLS = re.compile(r"[\x00-\x1f\x7f]|%(?![0-9A-Fa-f]{2})")
_NOT_IN_HOSTS = re.compile(r"[ %\\^`{|}]")


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A model to make. `files`, `adapters`, `draft_files`: file name -> digest of an uploaded blob; None = not sent."""

    name: ModelName
    from_: str = ""
    files: dict[str, str] | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    draft_files: dict[str, str] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    license: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    quantize: str = ""
    draft_quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    remote_host: str = ""
    modelfile: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request that asks for one thing, in one form; and what its caller must be told."""

    request: CreateRequest
    notices: tuple[Notice, ...] = ()


def checked(request: CreateRequest) -> CheckedRequest:
    """The request with its Modelfile merged in, after the checks that need no file.

    Raises InvalidRequest, InvalidModelName, ModelfileError, QuantizationError; their texts are Ollama's.
    """
    if request.path and not request.modelfile:
        raise InvalidRequest(
            "path is not supported: the server reads no files of its own; send the text as modelfile", field="path"
        )
    notices: list[Notice] = []
    if request.modelfile:
        fields = parse_modelfile(request.modelfile).to_create_fields()
        notices += [_deprecated(name) for name in fields.deprecated]
        request = _with_modelfile(request, fields)
    for files in (request.files or {}, request.draft_files):
        _check_paths(files)
    for files in (request.files or {}, request.draft_files, request.adapters):
        for digest in files.values():
            Digest.parse(digest)
    if request.draft_quantize and not request.draft_files:
        raise InvalidRequest("--draft-quantize requires a DRAFT model", field="draft_quantize")
    if not request.from_ and request.files is None:
        if request.modelfile is not None or request.path is not None:
            raise InvalidRequest("path or modelfile are required", field="modelfile")
        raise InvalidRequest("neither 'from' or 'files' was specified", field="from")
    _check_info(request.info)
    notices += [
        Notice(found.code, found.message, {"option": found.option}) for found in validate(request.parameters)[1]
    ]
    quantize, draft_quantize = _file_type(request.quantize), _file_type(request.draft_quantize)
    return CheckedRequest(replace(request, quantize=quantize, draft_quantize=draft_quantize), tuple(notices))


def _deprecated(name: str) -> Notice:
    return Notice("option_deprecated", f"parameter {name} is deprecated", {"option": name})


def _file_type(text: str) -> str:
    if not text:
        return ""
    name = parse_file_type(text)
    if name is None:
        raise QuantizationError(
            f"unsupported quantization type {text.upper()} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
        )
    return name


def _check_paths(files: Mapping[str, str]) -> None:
    for name in files:
        if not is_local_path(name):
            raise InvalidRequest("file path must be relative", field="files")


def is_local_path(name: str) -> bool:
    """Whether a slash path stays inside its directory and is spelled plainly. Source: Go io/fs ValidPath."""
    return name == "." or all(part not in {"", ".", ".."} for part in name.split("/"))


def _with_modelfile(request: CreateRequest, fields: CreateFields) -> CreateRequest:
    """Explicit JSON fields win over the Modelfile's. FROM and ADAPTER name models or uploaded blobs, never files."""
    from_, files = request.from_, request.files
    if not from_ and files is None:
        for source in fields.sources:
            if source.startswith("@"):
                files = {**(files or {}), source[1:]: source[1:]}
            else:
                from_ = _model_of(source)
    return replace(
        request,
        from_=from_,
        files=files,
        adapters=request.adapters or _blobs("ADAPTER", fields.adapter),
        draft_files=request.draft_files or {name: name for draft in fields.drafts for name in _blobs("DRAFT", draft)},
        template=request.template or fields.template,
        system=request.system or fields.system,
        license=request.license or fields.licenses,
        parameters={**fields.parameters, **request.parameters},
        messages=request.messages or fields.messages,
        renderer=request.renderer or fields.renderer,
        parser=request.parser or fields.parser,
        requires=request.requires or fields.requires,
    )


def _model_of(source: str) -> str:
    if not ModelName.parse_loose(source).is_valid:
        raise InvalidRequest(f"invalid model reference: {source}", field="modelfile")
    return source


def _blobs(command: str, text: str) -> dict[str, str]:
    if not text:
        return {}
    if not text.startswith("@"):
        raise InvalidRequest(
            f"{command} must name an uploaded blob, @sha256:<hex>: the server reads no files of its own",
            field="modelfile",
        )
    return {text[1:]: text[1:]}


def _check_info(info: Mapping[str, Any]) -> None:
    for name in _TEXT_INFO:
        if not isinstance(info.get(name, ""), str):
            raise InvalidRequest(f'info field "{name}" must be a string', field="info")
    for name in _NUMBER_INFO:
        value = info.get(name, 0)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidRequest(f'info field "{name}" must be a number', field="info")
        if not math.isfinite(value) or value < 0 or value != int(value) or value > _LARGEST_INT:
            raise InvalidRequest(f'info field "{name}" must be a non-negative integer', field="info")


def remote_url(host: str) -> str:
    """A remote host in full: `http://` and port 11434 unless it says otherwise; ollama.com is https on 443.

    Raises InvalidRequest `bad remote`. Source: ollama server/create.go remoteURL, 2026-08.
    """
    if host.startswith("/"):
        return f"http://localhost:11434{posixpath.normpath(host)}"
    text = host if "://" in host else f"http://{host}"
    if text == "http://ollama.com":
        return "https://ollama.com:443"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidRequest("bad remote", field="remote_host") from None
    if _NOT_IN_URLS.search(text) or _NOT_IN_HOSTS.search(parts.netloc):
        raise InvalidRequest("bad remote", field="remote_host")
    netloc = parts.netloc or "localhost"
    if port is None:
        netloc = f"{netloc}:11434"
    path = posixpath.normpath(parts.path) if parts.path else ""
    return urlunsplit((parts.scheme, netloc, "" if path == "/" else path, parts.query, parts.fragment))
