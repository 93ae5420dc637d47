"""`corral create`: parse the Modelfile here, send the files it names, let the server build the model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.cli.api import Api, ServerError
from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.progress import Progress, Spinner, follow
from corral.cli.sources import SourceError, expand, model_files, sent_names
from corral.cli.transfer import print_warnings
from corral.core import Message
from corral.errors import CorralError
from corral.names import ModelName
from corral.store.modelfile import CreateFields, parse_modelfile

_CHUNK_BYTES = 1 << 20
_UPLOADS = 2  # files read and sent at once; the disk is the limit, not the processor
_DEFAULT_NAME = "Modelfile"
_PATHS, _WEIGHTS = ("./", "../", "/", "~"), (".gguf", ".safetensors", ".bin")  # what is a path, not a model's name
_TEMPLATE = re.compile(r"^(?:template error: )?template: :")


class ModelfileNotFound(UsageError):
    """The Modelfile named with -f is not there."""

    def __init__(self) -> None:
        super().__init__("specified Modelfile wasn't found")


class ServerTooOld(CorralError):
    """The server builds models only from a Modelfile's text."""

    def __init__(self) -> None:
        super().__init__("the corral server must be updated to use `corral create` with this client")


@dataclass(slots=True)
class LocalFiles:
    """What the Modelfile's paths mean; `base` is a model's name when FROM is no path."""

    base: str = ""
    files: list[Path] = field(default_factory=list)
    adapters: list[Path] = field(default_factory=list)
    drafts: list[Path] = field(default_factory=list)


def create(context: Context) -> None:
    """`corral create MODEL [-f Modelfile] [-q LEVEL]`."""
    name = context.words[0]
    if not ModelName.parse_loose(name).is_valid:
        raise UsageError(f"invalid model name: {name}")
    text, folder = _read_modelfile(context.parsed.text("file"))
    asked = parse_modelfile(text).to_create_fields()
    for parameter in asked.deprecated:
        context.console.print(f"warning: parameter {parameter} is deprecated")
    with Progress(context.console) as progress:
        progress.status("gathering model components")
        local = find_files(asked, folder)
        if context.parsed.text("draft-quantize") and not local.drafts:
            raise UsageError("--draft-quantize requires a DRAFT model")
        body = {"model": name, **_settled(asked), **({"from": local.base} if local.base else {})}
        for key, flag in (("quantize", "quantize"), ("draft_quantize", "draft-quantize")):
            if context.parsed.text(flag):
                body[key] = context.parsed.text(flag)
        for key, files in (("files", local.files), ("adapters", local.adapters), ("draft_files", local.drafts)):
            if files:
                body[key] = _upload(context.api, progress, files)
        try:
            warnings = follow(progress, context.api.stream("/api/create", body), _label)
        except ServerError as error:
            # An Ollama of before 2025 says no more than this; its CLI recognises it the same way.
            if "path or Modelfile are required" in error.text:
                raise ServerTooOld from None
            raise ServerError(_TEMPLATE.sub("TEMPLATE, line ", error.text), error.status) from None
    print_warnings(context, warnings)


def _label(status: str, digest: str) -> str:
    return status or f"pulling {digest.removeprefix('sha256:')[:12]}..."


def _read_modelfile(named: str) -> tuple[bytes, Path]:
    """The Modelfile's bytes and the folder its paths are relative to; `FROM .` without any."""
    path = Path(named or _DEFAULT_NAME).absolute()
    try:
        return path.read_bytes(), path.parent
    except FileNotFoundError:
        if named:
            raise ModelfileNotFound from None
        return b"FROM .\n", path.parent


def find_files(asked: CreateFields, folder: Path) -> LocalFiles:
    """Resolve a Modelfile's paths; a FROM that is no path is a model's name. Raises SourceError, OSError."""
    local = LocalFiles()
    origins = []
    for source in asked.sources:
        path = expand(source, folder)
        if path.exists():
            origins.append(path.resolve())
            local.files += model_files(path)
        elif source.startswith(_PATHS) or source.endswith(_WEIGHTS):
            raise SourceError(f"FROM {source}: no such file ({path})")
        else:
            local.base = source
    for draft in asked.drafts:
        path = expand(draft, folder)
        local.drafts += model_files(path)
        if path.resolve() in origins:
            raise SourceError(f"DRAFT must not reference the same local path as FROM: {path}")
    if asked.adapter:
        local.adapters = model_files(expand(asked.adapter, folder))
    return local


def _settled(asked: CreateFields) -> dict[str, Any]:
    """The request's fields that need no file; empty ones are left out."""
    fields: dict[str, Any] = {
        "template": asked.template,
        "system": asked.system,
        "renderer": asked.renderer,
        "parser": asked.parser,
        "requires": asked.requires,
        "license": list(asked.licenses),
        "messages": [_wire(message) for message in asked.messages],
        "parameters": asked.parameters,
    }
    return {key: value for key, value in fields.items() if value}


def _wire(message: Message) -> Mapping[str, str]:
    return {"role": message.role, "content": message.content}


def _upload(api: Api, progress: Progress, files: Sequence[Path]) -> dict[str, str]:
    """Send the files the server lacks, a few at a time; returns sent name -> digest."""
    names = sent_names(files)
    with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="corral-upload") as pool:
        digests = pool.map(lambda file: _upload_file(api, progress, file), files)
        return {names[file]: digest for file, digest in zip(files, digests, strict=True)}


def _upload_file(api: Api, progress: Progress, file: Path) -> str:
    size = file.stat().st_size
    hasher = hashlib.sha256()
    for chunk in _chunks(file, lambda _: None):
        hasher.update(chunk)
    digest = f"sha256:{hasher.hexdigest()}"
    spinner = progress.spin(f"copying file {digest} 0%")
    if not api.has_blob(digest):
        api.upload_blob(digest, _chunks(file, lambda done: _tell(spinner, digest, done, size)))
    _tell(spinner, digest, size, size)
    spinner.stop()
    return digest


def _tell(spinner: Spinner, digest: str, done: int, size: int) -> None:
    spinner.message = f"copying file {digest} {100 * done // size if size else 100}%"


def _chunks(file: Path, progress: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            done += len(chunk)
            progress(done)
            yield chunk
