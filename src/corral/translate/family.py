"""What a family's module declares: `Family` for the text model, `Projector` for eyes and ears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corral.gguf import GGUFHeader
from corral.translate.view import View


def has_tensor(header: GGUFHeader, *prefixes: str) -> bool:
    """Whether a tensor's name begins so."""
    return any(tensor.name.startswith(prefixes) for tensor in header.tensors)


@dataclass(frozen=True)
class Family:
    """One of Ollama's layouts of text models."""

    name: str
    architectures: tuple[str, ...]  # `general.architecture` in files of this layout
    recognizes: Callable[[GGUFHeader], bool]  # asked only for these architectures
    text: Callable[[View], None]  # makes a view of the whole file the text model's


def _never(_header: GGUFHeader) -> bool:
    return False


@dataclass(frozen=True)
class Projector:
    """The eyes and ears inside files of a family, or a projector's own file."""

    plan: Callable[[View], None]  # makes an empty view the projector's file
    sees: Callable[[GGUFHeader], bool]
    hears: Callable[[GGUFHeader], bool] = _never
    recognizes: Callable[[GGUFHeader], bool] = _never  # for files that are a projector alone
