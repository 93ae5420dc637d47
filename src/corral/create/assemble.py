"""Puts a model's layers together: which replace which, in which order they end up, what the config says.

Small layers stay in memory until the manifest is written, so that a create that fails leaves none behind.
Source: ollama server/create.go createModel, setTemplate … setMessages, 2026-08.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from corral.core import Message
from corral.create.drafts import LayerDraft, layer_status
from corral.create.request import CreateRequest
from corral.errors import InvalidRequest, TemplateError
from corral.gguf.types import format_parameter_size
from corral.gotemplate import parse as parse_template
from corral.names import Digest
from corral.store import manifests as media
from corral.store.layers import MAX_PARAMS_BYTES, encode_messages, encode_params, max_bytes, parse_params
from corral.store.manifests import Layer
from corral.store.modelconfig import GGUF_FORMAT, DraftConfig, ModelConfig
from corral.store.models import ModelStore

# Architecture -> renderer, parser: models whose prompts are built in code, not by a template.
_BUILT_IN = {
    "gemma4": ("gemma4", "gemma4"),
    "laguna": ("laguna", "laguna"),
    "nemotron_h": ("nemotron-3-nano", "nemotron-3-nano"),
    "nemotron_h_moe": ("nemotron-3-nano", "nemotron-3-nano"),
    "nemotron_h_omni": ("nemotron-3-nano", "nemotron-3-nano"),
}
_GEMMA4_STOP = "<turn|>"


class Assembly:
    """The layers of a model being made, in manifest order."""

    def __init__(self, store: ModelStore, drafts: Sequence[LayerDraft]) -> None:
        self._store = store
        self.drafts = list(drafts)

    def add(self, media_type: str, data: bytes, status: str = "") -> None:
        """Append a small layer; its progress line says whether its blob is new, unless `status` says something else.

        Raises InvalidRequest for one that is too long to be read again.
        """
        if len(data) > max_bytes(media_type):
            kind = media_type.rpartition(".")[2]
            raise InvalidRequest(f"{kind} is {len(data)} bytes long, the limit is {max_bytes(media_type)}", field=kind)
        digest = Digest(hashlib.sha256(data).hexdigest())
        is_new = not self._store.blobs.has(digest) and all(draft.layer.digest != digest for draft in self.drafts)
        layer = Layer(media_type, digest, len(data))
        self.drafts.append(LayerDraft(layer, status or layer_status(digest, is_new=is_new), data=data))

    def set_template(self, text: str) -> None:
        """Replace the template; raises InvalidRequest `template error: …` with the line when it does not parse."""
        try:
            parse_template(text)
        except TemplateError as error:
            raise InvalidRequest(f"template error: {error.go_text}", field="template") from error
        self._drop(media.TEMPLATE)
        self.add(media.TEMPLATE, text.encode())

    def set_system(self, text: str) -> None:
        """Replace the system prompt."""
        self._drop(media.SYSTEM)
        self.add(media.SYSTEM, text.encode())

    def merge_parameters(self, given: Mapping[str, Any]) -> None:
        """Merge parameters over those there are, per key. Written anew whenever there are any, even if unchanged."""
        merged = dict(given)
        for draft in self.drafts:
            if draft.layer.media_type == media.PARAMS:
                raw = draft.data
                if raw is None:
                    raw = self._store.blobs.read(draft.layer.digest, MAX_PARAMS_BYTES)
                merged = parse_params(raw) | merged
        if merged:
            self._drop(media.PARAMS)
            self.add(media.PARAMS, encode_params(merged))

    def set_messages(self, messages: Sequence[Message]) -> None:
        """Replace the messages."""
        self._drop(media.MESSAGES)
        self.add(media.MESSAGES, encode_messages(messages))

    def _drop(self, media_type: str) -> None:
        self.drafts = [draft for draft in self.drafts if draft.layer.media_type != media_type]


def first_config(request: CreateRequest, base: ModelConfig | None) -> ModelConfig:
    """The config before the weights have their say: the request's fields, the base model's, `info`'s."""
    info = request.info
    words = info.get("capabilities")
    own = tuple(word for word in words if isinstance(word, str)) if isinstance(words, list) else ()
    family = info.get("model_family", "")
    base = base or ModelConfig()
    return ModelConfig(
        model_format=base.model_format,
        model_family=family,
        model_families=(family,) if family else None,
        model_type=info.get("parameter_size", ""),
        file_type=info.get("quantization_level", ""),
        renderer=request.renderer or base.renderer,
        parser=request.parser or base.parser,
        requires=request.requires or base.requires,
        capabilities=(*base.capabilities, *own),
        context_length=int(info.get("context_length", 0)),
        embedding_length=int(info.get("embedding_length", 0)),
        base_name=info.get("base_name", ""),
    )


def config_with_weights(config: ModelConfig, draft: LayerDraft) -> ModelConfig:
    """The config after one more layer; layers without a GGUF header change nothing."""
    header = draft.header
    if header is None:
        return config
    architecture = header.architecture
    if draft.layer.media_type == media.DRAFT:
        return replace(config, draft=DraftConfig(model_format=GGUF_FORMAT, architecture=architecture))
    if draft.layer.media_type != media.MODEL:
        return config
    renderer, parser = _BUILT_IN.get(architecture, ("", ""))
    return replace(
        config,
        model_format=config.model_format or GGUF_FORMAT,
        model_family=config.model_family or architecture,
        model_families=(*(config.model_families or ()), architecture),
        model_type=config.model_type or format_parameter_size(sum(part.parameter_count for part in draft.parts)),
        file_type=config.file_type or header.file_type,
        renderer=config.renderer or renderer,
        parser=config.parser or parser,
    )


def parameters_of_architecture(before: ModelConfig, draft: LayerDraft) -> dict[str, Any]:
    """Parameters that a model built for a renderer gets unless the request sets them."""
    header = draft.header
    if header is None or draft.layer.media_type != media.MODEL or (before.renderer and before.parser):
        return {}
    return {"stop": [_GEMMA4_STOP]} if header.architecture == "gemma4" else {}
