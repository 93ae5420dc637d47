"""Models put into a store by hand, for tests: weights, config and small layers, without create or pull."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corral.core import Message
from corral.gguf import format_parameter_size, read_header
from corral.names import ModelName
from corral.store import Layer, Manifest, ModelConfig, ModelStore
from corral.store import manifests as media
from corral.store.layers import encode_messages, encode_params

_TEXTS = {"template": media.TEMPLATE, "system": media.SYSTEM, "license": media.LICENSE}


def add_model(
    store: ModelStore,
    name: str,
    gguf: Path | None = None,
    *,
    texts: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    messages: tuple[Message, ...] = (),
    extra: Mapping[str, Path] | None = None,
    config: ModelConfig | None = None,
) -> ModelName:
    """Write a model into the store and return its name.

    `texts` by layer (`template`, `system`, `license`), `extra` files by media type, `config` instead of the one that
    create would make of the GGUF.
    """
    layers = []
    if gguf is not None:
        header = read_header(gguf)
        family = header.architecture
        size = format_parameter_size(header.parameter_count)
        config = config or ModelConfig("gguf", family, (family,), size, header.file_type)
        layers.append(_layer(store, media.MODEL, gguf.read_bytes()))
    layers += [_layer(store, kind, path.read_bytes()) for kind, path in (extra or {}).items()]
    layers += [_layer(store, _TEXTS[kind], text.encode()) for kind, text in (texts or {}).items()]
    if parameters:
        layers.append(_layer(store, media.PARAMS, encode_params(parameters)))
    if messages:
        layers.append(_layer(store, media.MESSAGES, encode_messages(messages)))
    manifest = Manifest(_layer(store, media.CONFIG, (config or ModelConfig()).encode()), tuple(layers))
    parsed = store.resolve(name)
    store.write(parsed, manifest)
    return parsed


def _layer(store: ModelStore, media_type: str, data: bytes) -> Layer:
    digest, _ = store.blobs.put(data)
    return Layer(media_type, digest, len(data))
