"""Model names and digests: grammar, defaults, printing. No I/O.

A name is `[scheme://][host[:port]/][namespace/]model[:tag]`, read from right to left. Defaults: host
`registry.ollama.ai`, namespace `library`, tag `latest`, scheme `https`.

| part      | length | first char     | later chars         |
|-----------|--------|----------------|---------------------|
| host      | 1..350 | [A-Za-z0-9_]   | [A-Za-z0-9_.:-]     |
| namespace | 1..80  | same           | [A-Za-z0-9_-]       |
| model     | 1..80  | same           | [A-Za-z0-9_.-]      |
| tag       | 1..80  | same           | [A-Za-z0-9_.-]      |

Source of the grammar: ollama types/model/name.go, 2026-08.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from corral.errors import InvalidModelName, InvalidRequest

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
DEFAULT_SCHEME = "https"
MISSING = "!MISSING!"  # stands for the empty side of a separator; never valid

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})\Z")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model's name with all four parts filled in; may be invalid until `is_valid` says otherwise."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = DEFAULT_SCHEME

    @classmethod
    def parse_loose(cls, text: str) -> ModelName:
        """Read any text; empty sides of separators become MISSING, so the result fails `is_valid`."""
        rest, tag = text, ""
        colon = rest.rfind(":")
        if colon > rest.rfind("/"):
            rest, tag = rest[:colon], rest[colon + 1 :] or MISSING
            if not rest:
                rest = MISSING
        rest, slash, model = rest.rpartition("/")
        model = model or MISSING
        if not slash:
            return cls(DEFAULT_HOST, DEFAULT_NAMESPACE, model, tag or DEFAULT_TAG)
        rest, slash, namespace = (rest or MISSING).rpartition("/")
        namespace = namespace or MISSING
        scheme, host = "", ""
        if slash:
            scheme, separator, host = (rest or MISSING).partition("://")
            if not separator:
                scheme, host = "", scheme
            host = host or MISSING
        return cls(host or DEFAULT_HOST, namespace, model, tag or DEFAULT_TAG, scheme or DEFAULT_SCHEME)

    @classmethod
    def parse(cls, text: str, why: str = "invalid model name") -> ModelName:
        """Read a name; raises InvalidModelName with `why` as its text when the grammar refuses it."""
        name = cls.parse_loose(text)
        if not name.is_valid:
            raise InvalidModelName(text, why)
        return name

    @classmethod
    def from_path(cls, path: PurePosixPath) -> ModelName | None:
        """Read `<host>/<namespace>/<model>/<tag>` below `manifests/`; None for any other shape."""
        if len(path.parts) != 4:
            return None
        name = cls(*path.parts)
        return name if name.is_valid else None

    @property
    def is_valid(self) -> bool:
        """Whether all four parts match the grammar."""
        return bool(
            _HOST.match(self.host)
            and _NAMESPACE.match(self.namespace)
            and _PART.match(self.model)
            and _PART.match(self.tag)
        )

    @property
    def full(self) -> str:
        """`host/namespace/model:tag`."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """The shortest form that reads back as this name; the tag is always printed."""
        if self.host.lower() != DEFAULT_HOST:
            return self.full
        prefix = "" if self.namespace.lower() == DEFAULT_NAMESPACE else f"{self.namespace}/"
        return f"{prefix}{self.model}:{self.tag}"

    @property
    def repository(self) -> str:
        """`namespace/model`, as registry URLs have it."""
        return f"{self.namespace}/{self.model}"

    @property
    def path(self) -> PurePosixPath:
        """The manifest's place below `manifests/`."""
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)

    def __str__(self) -> str:
        return self.short


@dataclass(frozen=True, slots=True)
class SourceRef:
    """A name as the caller wrote it, its `:cloud`/`:local` suffix taken off; source is "", "cloud" or "local"."""

    name: str
    source: str = ""


def split_source(text: str) -> SourceRef:
    """Take a `:cloud`, `:local` or `-cloud` suffix off a name.

    Raises InvalidRequest when both kinds are there. Source: ollama internal/modelref/modelref.go, 2026-08.
    """
    stem, source = _cut_source(text.strip())
    if source and _cut_source(stem)[1]:
        raise InvalidRequest(f'use either :local or :cloud, not both: "{text.strip()}"', field="model")
    return SourceRef(stem, source)


def _cut_source(text: str) -> tuple[str, str]:
    stem, colon, suffix = text.rpartition(":")
    if not colon:
        return text, ""
    word = suffix.strip().lower()
    if word in {"cloud", "local"}:
        return stem, word
    if word.endswith("-cloud") and "/" not in suffix:
        return f"{stem}:{suffix.strip()[: -len('-cloud')]}", "cloud"
    return text, ""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A sha256 digest; `hex` is 64 lower-case hex digits."""

    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:<hex>` or `sha256-<hex>`; raises InvalidRequest `invalid digest format`."""
        match = _DIGEST.match(text)
        if not match:
            raise InvalidRequest("invalid digest format", field="digest")
        return cls(match.group(1).lower())

    @property
    def short(self) -> str:
        """The first 12 hex digits, as progress lines and `list` show them."""
        return self.hex[:12]

    @property
    def filename(self) -> str:
        """The blob's file name."""
        return f"sha256-{self.hex}"

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
