"""Request shapes of the native management routes: create, pull, push, show, copy, delete, token tools.

Called by `server/native/`. Source: ollama api/types.go, 2026-08; `name`, `modelfile` and `path` are older forms that
guide.md shows.
"""

from __future__ import annotations

from typing import Any

import msgspec

from corral.api.native import CommonFields, MessageFields


class NamedFields(msgspec.Struct):
    """A model by `model`, or by the older `name`."""

    model: str = ""
    name: str = ""

    @property
    def reference(self) -> str:
        """The first of the two that is not empty."""
        return self.model or self.name


class ShowFields(NamedFields):
    """POST /api/show; `template` is accepted and ignored. Ours: `remote`, what a registry has under the name."""

    remote: bool = False
    insecure: bool = False
    verbose: bool = False
    system: str = ""
    template: str = ""
    options: dict[str, Any] = {}


class TransferFields(NamedFields):
    """POST /api/pull and /api/push; user name and password are accepted and ignored."""

    insecure: bool = False
    stream: bool = True
    username: str = ""
    password: str = ""


class DrainFields(msgspec.Struct):
    """POST /api/cluster/drain."""

    node: str = ""


class CopyFields(msgspec.Struct):
    """POST /api/copy."""

    source: str = ""
    destination: str = ""


class CreateFields(NamedFields):
    """POST /api/create."""

    stream: bool = True
    from_: str = msgspec.field(name="from", default="")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    draft_files: dict[str, str] | None = None
    template: str = ""
    system: str = ""
    license: Any = None
    parameters: dict[str, Any] = {}
    messages: list[MessageFields | None] = []
    quantize: str = ""
    quantization: str = ""
    draft_quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: dict[str, Any] = {}
    remote_host: str = ""
    modelfile: str | None = None
    path: str | None = None


class RerankFields(CommonFields):
    """POST /api/rerank (ours)."""

    query: str = ""
    documents: list[str] = msgspec.field(default_factory=list)
    top_n: int = 0


class TokenizeFields(CommonFields):
    """POST /api/tokenize (ours); `prompt` and `content` are other names of `text`."""

    text: str = ""
    prompt: str = ""
    content: str = ""
    add_special: bool = False


class DetokenizeFields(CommonFields):
    """POST /api/detokenize (ours)."""

    tokens: list[int] = msgspec.field(default_factory=list)
