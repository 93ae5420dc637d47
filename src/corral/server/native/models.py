"""GET /api/tags, GET /api/ps, POST /api/show: what is on disk and what is loaded.

Source: ollama server/model_list_cache.go, server/routes.go PsHandler, GetModelInfo, 2026-08.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.api.native_replies import encode, warnings_of
from corral.api.timestamps import format_local
from corral.core import Message, Notice
from corral.errors import InvalidGGUF
from corral.gguf import GGUFArray, GGUFHeader, TensorInfo
from corral.gguf.types import ValueType
from corral.sched.request import LoadedModel
from corral.server.deps import deps_of
from corral.server.native.replies import asks, json_reply
from corral.store.modelfile import format_modelfile, format_parameters, model_commands
from corral.store.models import Model, ModelSummary
from corral.store.sharing import freed_by_delete

_BLOCK = re.compile(r"blk\.(\d+)\.")
_MOST_SHOWN_BYTES = 32 * 2**20  # of arrays, as JSON; the largest vocabularies take half of it
_ARRAY_STEP = 4096
_TEXTS_AT_ONCE = 8  # each may have a megabyte
DEFAULT_TEMPLATE = "{{ .Prompt }}"  # what a model without any template is shown with


async def tags(request: Request) -> Response:
    """All models, newest first; `?verbose=1` adds what deleting each would free."""
    store = deps_of(request).store
    rows = await run_blocking(store.list)
    freed = await run_blocking(freed_by_delete, store) if asks(request, "verbose") else {}
    return json_reply(
        {"models": [_tag(row) | ({"freed_by_delete": freed[row.name]} if row.name in freed else {}) for row in rows]}
    )


async def ps(request: Request) -> Response:
    """The loaded models, the one that stays longest first; `?verbose=1` adds slots, memory parts and the like."""
    rows = deps_of(request).scheduler.loaded()
    verbose = asks(request, "verbose")
    return json_reply({"models": [_loaded(row) | (_inside(row) if verbose else {}) for row in rows]})


def _tag(row: ModelSummary) -> dict[str, Any]:
    details: dict[str, Any] = {
        "parent_model": row.parent_model,
        "format": row.format,
        "family": row.family,
        "families": None if row.families is None else list(row.families),
        "parameter_size": row.parameter_size,
        "quantization_level": row.quantization_level,
    }
    if row.context_length:
        details["context_length"] = row.context_length
    if row.embedding_length:
        details["embedding_length"] = row.embedding_length
    remote = {"remote_model": row.remote_model, "remote_host": row.remote_host}
    entry: dict[str, Any] = {"name": row.name.short, "model": row.name.short}
    entry |= {key: value for key, value in remote.items() if value}
    entry |= {
        "modified_at": format_local(row.modified_at),
        "size": row.size_bytes,
        "digest": row.digest,
        "details": details,
    }
    if row.capabilities:
        entry["capabilities"] = list(row.capabilities)
    if row.problem:
        entry["warnings"] = [{"code": "model_damaged", "message": row.problem}]
    return entry


def _loaded(row: LoadedModel) -> dict[str, Any]:
    return {
        "name": row.name,
        "model": row.name,
        "size": row.size_bytes,
        "digest": row.digest,
        "details": dict(row.details),
        "expires_at": format_local(row.expires_at),
        "size_vram": row.size_vram_bytes,
        "context_length": row.context_window,
    } | ({"node": row.node} if row.node else {})


def _inside(row: LoadedModel) -> dict[str, Any]:
    return {
        "state": row.state,
        "slots": row.slots,
        "threads": row.launched.n_threads if row.launched else 0,
        "active": row.active,
        "pid": row.pid,
        "kernels": row.kernels or "built-in",
        "huge_pages": row.huge_pages,
        "sandbox": dict(row.sandbox),
        "memory": dict(row.memory),
        "planned": dict(row.planned),
        "prompts": dict(row.prompts),
        "engine": row.build,
        "load_seconds": round(row.load_s, 3),
        "idle_seconds": round(row.idle_s, 3),
    }


def show_body(
    model: Model, *, system: str, options: dict[str, Any], verbose: bool, basename: str = ""
) -> dict[str, Any]:
    """The answer of /api/show; reads GGUF headers, so it belongs on the executor.

    `system` and `options` are the request's; `basename` replaces `general.basename` (GitHub Copilot asks for it).
    """
    header = model.header
    body: dict[str, Any] = {
        "license": "\n".join(model.licenses),
        "modelfile": _modelfile(model, system, options),
        "parameters": format_parameters(model.parameters),
        "template": _template(model, header),
        "system": system or model.system,
    }
    body = {key: value for key, value in body.items() if value}
    body["details"] = base_details(model)
    if model.messages:
        body["messages"] = [_message(message) for message in model.messages]
    remote = {"remote_model": model.config.remote_model, "remote_host": model.config.remote_host}
    body |= {key: value for key, value in remote.items() if value}
    arrays = _Arrays(verbose)
    body["model_info"] = _model_info(header, arrays) | ({"general.basename": basename} if basename else {})
    if model.projectors:
        body["projector_info"] = _metadata(model.projector_headers[0], arrays)
    if header is not None and header.tensors:
        body["tensors"] = [
            {"name": tensor.name, "type": tensor.type_name, "shape": list(tensor.shape)}
            for tensor in sorted(header.tensors, key=_place)
        ]
    if model.capabilities:
        body["capabilities"] = list(model.capabilities)
    body["modified_at"] = format_local(model.modified_at)
    if model.config.requires:
        body["requires"] = model.config.requires
    if warnings := (*model.warnings, *arrays.notices):
        body["warnings"] = warnings_of(warnings)
    return body


def _place(tensor: TensorInfo) -> tuple[int, str]:
    """Where Ollama lists a tensor: outside the blocks first, then block by block, each by name."""
    match = _BLOCK.match(tensor.name)
    return (int(match.group(1)) if match else -1, tensor.name)


def base_details(model: Model) -> dict[str, Any]:
    """The six keys of `details` that show and ps have."""
    return {
        "parent_model": model.parent_model,
        "format": model.config.model_format,
        "family": model.family,
        "families": None if model.families is None else list(model.families),
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization_level,
    }


def _modelfile(model: Model, system: str, options: dict[str, Any]) -> str:
    commands = model_commands(
        weights=str(model.weights or model.name.short),
        adapters=[str(path) for path in model.adapters],
        draft=str(model.draft or ""),
        projectors=[str(path) for path in model.projectors],
        template=model.template,
        system=system or model.system,
        renderer=model.config.renderer,
        parser=model.config.parser,
        parameters=model.parameters | options,
        licenses=model.licenses,
        messages=model.messages,
    )
    return format_modelfile(model.name.short, commands, safetensors=not model.config.is_gguf)


def _template(model: Model, header: GGUFHeader | None) -> str:
    if model.selected_template == "jinja" and header is not None and not model.is_rendered_here:
        return header.chat_template
    return DEFAULT_TEMPLATE if model.template is None else model.template


class _Arrays:
    """The arrays of one answer: as JSON text, for a list of so many objects would be ten times as large."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._room = _MOST_SHOWN_BYTES
        self.notices: list[Notice] = []

    def show(self, key: str, array: GGUFArray) -> Raw | list[Any] | None:
        """All elements when verbose, else null, or [] when there are none."""
        if not array.length:
            return []
        try:
            return self._read(key, array) if self._verbose else None
        except InvalidGGUF:
            return None

    def _read(self, key: str, array: GGUFArray) -> Raw | None:
        text = bytearray(b"[")
        elements = array.iterate()
        at_once = _TEXTS_AT_ONCE if array.type is ValueType.STRING else _ARRAY_STEP
        while step := list(islice(elements, at_once)):
            text += encode(step)[1:-1] + b","
            if len(text) > self._room:
                why = f"{key} has {array.length} elements, and only {_MOST_SHOWN_BYTES} bytes of arrays are shown"
                self.notices.append(Notice("array_left_out", why, {"key": key, "elements": array.length}))
                return None
        text[-1:] = b"]"
        self._room -= len(text)
        return Raw(text)


def _model_info(header: GGUFHeader | None, arrays: _Arrays) -> dict[str, Any]:
    if header is None:
        return {}
    hidden = ("general.name", "tokenizer.chat_template")
    return {key: value for key, value in _metadata(header, arrays).items() if key not in hidden}


def _metadata(header: GGUFHeader, arrays: _Arrays) -> dict[str, Any]:
    """All keys, sorted, with the count of parameters."""
    info = dict(header.metadata.items()) | {"general.parameter_count": header.parameter_count}
    return {
        key: arrays.show(key, value) if isinstance(value, GGUFArray) else value for key, value in sorted(info.items())
    }


def _message(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
