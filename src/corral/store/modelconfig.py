"""`ModelConfig`: the config blob that a manifest points to. Written by create, read by everything that shows details.

Source of keys, order and what is left out: ollama types/model/config.go, 2026-08.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from corral.errors import InvalidRequest
from corral.gojson import encode_blob
from corral.jsonbudget import PartBudget

GGUF_FORMAT = "gguf"
SAFETENSORS_FORMAT = "safetensors"


@dataclass(frozen=True, slots=True)
class DraftConfig:
    """A draft model inside a safetensors model's own layers."""

    model_format: str = ""
    architecture: str = ""
    tensor_prefix: str = ""
    config: str = ""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a config blob says; `model_type` is the parameter size's text, `file_type` the quantisation's."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] | None = None
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""
    draft: DraftConfig | None = None
    architecture: str = "amd64"
    os: str = "linux"

    @property
    def is_remote(self) -> bool:
        """Whether this is the stub of a model on another host."""
        return bool(self.remote_host or self.remote_model)

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are a GGUF; old configs do not say."""
        return self.model_format in {"", GGUF_FORMAT}

    @property
    def families(self) -> tuple[str, ...]:
        """The family and the families, as one list to look something up in."""
        return (self.model_family, *(self.model_families or ()))

    @classmethod
    def parse(cls, raw: bytes) -> ModelConfig:
        """Read a config blob; unknown keys are ignored, null is a missing key. Raises InvalidRequest."""
        PartBudget("the config").take(raw)
        try:
            document, _ = json.JSONDecoder().raw_decode(raw.decode("utf-8", "replace").lstrip())
            if not isinstance(document, dict):
                raise InvalidRequest("config is no JSON object")
            # Go writes nil as null and reads null as the zero value.
            kept = {key: value for key, value in document.items() if value is not None}
            return msgspec.convert(kept, cls)
        except (ValueError, RecursionError, msgspec.ValidationError) as error:
            raise InvalidRequest(f"config is not readable: {error}") from error

    def encode(self) -> bytes:
        """The blob's bytes, as Ollama would write them."""
        fields: dict[str, Any] = {
            "model_format": self.model_format,
            "model_family": self.model_family,
            "model_families": None if self.model_families is None else list(self.model_families),
            "model_type": self.model_type,
            "file_type": self.file_type,
        }
        optional: dict[str, Any] = {
            "renderer": self.renderer,
            "parser": self.parser,
            "requires": self.requires,
            "remote_host": self.remote_host,
            "remote_model": self.remote_model,
            "capabilities": list(self.capabilities),
            "context_length": self.context_length,
            "embedding_length": self.embedding_length,
            "base_name": self.base_name,
        }
        fields |= {key: value for key, value in optional.items() if value}
        if self.draft is not None:
            parts = ("model_format", "architecture", "tensor_prefix", "config")
            fields["draft"] = {part: text for part in parts if (text := getattr(self.draft, part))}
        return encode_blob(fields | {"architecture": self.architecture, "os": self.os})
