"""Layers on their way into a manifest, and how the steps of making them are written down.

Making a layer is a blocking generator that yields progress lines and returns what it made (`Steps`); `flow.py` drives
it on the executor and closes it when the caller leaves, which removes whatever it was writing.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from corral.core import TransferStatus
from corral.create.mixture import COMPANION_PREFIXES
from corral.create.rewrite import tensors_of
from corral.gguf import GGUFHeader
from corral.names import Digest
from corral.store.manifests import Layer

T = TypeVar("T")
Steps = Generator[TransferStatus, None, T]


@dataclass(frozen=True, slots=True)
class LayerDraft:
    """A layer to be. `parts`: headers of the GGUF file(s) it is made from; `data`: bytes that are not stored yet.

    `uploaded`: it comes from a file of this very request, not from another model.
    """

    layer: Layer
    status: str  # its progress line
    parts: tuple[GGUFHeader, ...] = ()
    uploaded: bool = False
    data: bytes | None = None

    @property
    def header(self) -> GGUFHeader | None:
        """The header of the (first) GGUF file, None for other layers."""
        return self.parts[0] if self.parts else None

    @property
    def has_companions(self) -> bool:
        """Whether encoder or draft tensors ride in this file, which llama.cpp's text loader does not know."""
        return any(tensor.info.name.startswith(COMPANION_PREFIXES) for tensor in tensors_of(self.parts))


def layer_status(digest: Digest, *, is_new: bool) -> str:
    """The progress line of a layer."""
    return f"{'creating new' if is_new else 'using existing'} layer {digest}"


def existing(layer: Layer, *, parts: tuple[GGUFHeader, ...] = (), uploaded: bool = False) -> LayerDraft:
    """A layer whose blob is there already."""
    return LayerDraft(layer, layer_status(layer.digest, is_new=False), parts, uploaded)
