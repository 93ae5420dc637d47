"""`Model`: everything a manifest, its small layers and the GGUF headers say, read once and immutable.

Made by `ModelStore.load`. Headers are read when first asked for, at the latest by `read_files`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from corral.core import Capability, Message, Notice
from corral.errors import CorralError, InvalidGGUF
from corral.gguf import GGUFHeader
from corral.names import ModelName
from corral.store.capabilities import (
    SelectedTemplate,
    Traits,
    is_rendered_here,
    runtime_capabilities,
    selected_template,
    tags_capabilities,
    uses_harmony,
)
from corral.store.gotemplates import read_traits
from corral.store.manifests import Manifest
from corral.store.modelconfig import ModelConfig
from corral.store.verdict import Verdict, judge
from corral.translate import RULES_VERSION, Layout, Translation, recognize
from corral.translate.heading import engine_header

_UNKNOWN_QUANTIZATION = {"", "unknown"}


@dataclass(frozen=True)
class Model:
    """A model on disk, under one of its names."""

    name: ModelName
    manifest: Manifest
    config: ModelConfig
    modified_at: datetime  # of the manifest, with zone
    weights: Path | None = None  # the GGUF; None for remote stubs and safetensors models
    projectors: tuple[Path, ...] = ()
    adapters: tuple[Path, ...] = ()
    draft: Path | None = None
    parent_model: str = ""
    template: str | None = None  # the Go template layer's text; None when there is no such layer
    system: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    licenses: tuple[str, ...] = ()
    go_template_setting: bool | None = None
    engine_is_ours: bool = True  # False: an engine of the owner's choice, which may know more architectures
    read_header: Callable[[Path], GGUFHeader] = field(repr=False, compare=False, kw_only=True)

    @property
    def digest(self) -> str:
        """The manifest's sha256, bare hex."""
        return self.manifest.digest_hex

    @property
    def size_bytes(self) -> int:
        """The sum of the manifest's sizes."""
        return self.manifest.size_bytes

    @cached_property
    def header(self) -> GGUFHeader | None:
        """The weights' header, None without GGUF weights; raises InvalidGGUF, OSError."""
        return None if self.weights is None else self.read_header(self.weights)

    @cached_property
    def projector_headers(self) -> tuple[GGUFHeader, ...]:
        """The projectors' headers; raises InvalidGGUF, OSError."""
        return tuple(self.read_header(path) for path in self.projectors)

    @cached_property
    def draft_header(self) -> GGUFHeader | None:
        """The header of the draft layer as the engine reads it; raises as `engine_header` does."""
        return None if self.draft is None else engine_header(self.read_header(self.draft))

    @cached_property
    def layout(self) -> Layout | None:
        """The weights' layout when it is one that has to be translated for the engine; raises as `header` does."""
        return None if self.header is None else recognize(self.header)

    @cached_property
    def engine_header(self) -> GGUFHeader | None:
        """The header of the file that the engine opens: the weights', translated where they have to be.

        Raises UntranslatableModel too.
        """
        return None if self.header is None else engine_header(self.header)

    @property
    def translation(self) -> str:
        """By which rules the engine's file is made from the weights; "" when it opens the weights themselves."""
        return "" if self.layout is None else str(RULES_VERSION)

    @cached_property
    def projector_plan(self) -> Translation | None:
        """The projector inside the weights, where no layer has one; raises as `engine_header` does."""
        return None if self.layout is None or self.projectors else self.layout.projector_plan()

    @property
    def projector_sources(self) -> tuple[Path, ...]:
        """The blobs that the engine's projectors are in or made from: projector layers, else the weights themselves."""
        if self.projectors or self.projector_plan is None or self.weights is None:
            return self.projectors
        return (self.weights,)

    @cached_property
    def verdict(self) -> Verdict:
        """Whether it runs here, and what of it."""
        try:
            header = self.header
        except InvalidGGUF as error:  # it names the tensor or the key
            return Verdict(f"its weights cannot be read: {error}; pull or create it again")
        except OSError:
            header = None
        return judge(header, self.config, has_projector=bool(self.projectors), engine_is_ours=self.engine_is_ours)

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """What whoever looks at the model should know: that it cannot run here."""
        if self.weights is None or self.verdict.runs:
            return ()
        return (Notice("cannot_run", f"{self.name.short} {self.verdict}", {"model": self.name.short}),)

    @cached_property
    def traits(self) -> Traits:
        """What capabilities and template choice follow from; an unreadable header counts as absent."""
        header = _or_none(lambda: self.header)
        return Traits(
            config=self.config,
            header=header,
            layout=None if header is None else self.layout,
            runs=header is None or self.verdict.runs,
            projectors=tuple(_or_none(partial(self.read_header, path)) for path in self.projectors),
            go_template=None if self.template is None else read_traits(self.template),
            go_template_setting=self.go_template_setting,
        )

    def read_files(self) -> None:
        """Reads what is read lazily, so that a model taken to the event loop does not block it later."""
        _ = self.traits

    @cached_property
    def capabilities(self) -> tuple[Capability, ...]:
        """What show lists and requests are checked against."""
        return runtime_capabilities(self.traits)

    @cached_property
    def tags_capabilities(self) -> tuple[Capability, ...]:
        """What the model list shows."""
        return tags_capabilities(self.traits)

    @cached_property
    def selected_template(self) -> SelectedTemplate:
        """Which template renders a chat with this model."""
        return selected_template(self.traits)

    @property
    def is_rendered_here(self) -> bool:
        """Whether chats are rendered by Corral (Go template, renderer, harmony) instead of the engine's Jinja."""
        return is_rendered_here(self.traits)

    @property
    def uses_harmony(self) -> bool:
        """Whether the model speaks gpt-oss' harmony format."""
        return uses_harmony(self.traits)

    @property
    def family(self) -> str:
        """`details.family`."""
        return self.config.model_family

    @property
    def families(self) -> tuple[str, ...] | None:
        """`details.families`; None is null on the wire."""
        return self.config.model_families

    @property
    def parameter_size(self) -> str:
        """`details.parameter_size`."""
        return self.config.model_type

    @property
    def quantization_level(self) -> str:
        """`details.quantization_level` of show: the config's, or the file's when the config does not know."""
        header = self.traits.header
        if self.config.file_type.lower() in _UNKNOWN_QUANTIZATION and header is not None:
            return header.file_type
        return self.config.file_type

    @property
    def tags_quantization_level(self) -> str:
        """`details.quantization_level` of tags, where a file type 0 in the file is F32."""
        header = self.traits.header
        if self.config.file_type.lower() in _UNKNOWN_QUANTIZATION and header is not None:
            in_file = header.file_type_for_tags
            return self.config.file_type if in_file in _UNKNOWN_QUANTIZATION else in_file
        return self.config.file_type

    @property
    def context_length(self) -> int:
        """Trained context in tokens: the config's, else the file's, 0 when unknown."""
        header = self.traits.header
        return self.config.context_length or (header.context_length if header else 0)

    @property
    def embedding_length(self) -> int:
        """Embedding width: the config's, else the file's, 0 when unknown."""
        header = self.traits.header
        return self.config.embedding_length or (header.embedding_length if header else 0)


def _or_none(read: Callable[[], GGUFHeader | None]) -> GGUFHeader | None:
    try:
        return read()
    except (CorralError, OSError):
        return None  # ModelStore.load and fsck report it; a list or a show goes on without
