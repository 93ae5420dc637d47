"""What a family is: GGUF's name of the architecture, metadata from config.json, and rules for its tensors.

A tensor's way: `renames` bring its hub name into the form that the `gguf` library's table knows, experts that lie apart
become one stack, `gather` puts together what else belongs together, then the first of the `rules` that matches says
what is written. A tensor without a rule is written as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight

Value = int | float | bool | str | list[int] | list[float] | list[bool] | list[str]
Metadata = dict[str, Value]
Made = Iterable[tuple[str, Weight]]  # names as the library's table knows them, and what is written under them
Gather = Callable[[Mapping[str, Weight], HubConfig], dict[str, Weight]]
Action = Callable[[str, Weight, HubConfig], Made]


class Head(Enum):
    """What the engine's architecture makes of an output matrix."""

    OPTIONAL = "optional"  # without one it takes the token embedding
    NEEDED = "needed"  # it does not load without one
    USUALLY_TIED = "usually tied"  # optional; the class ties it unless the config says otherwise
    ALWAYS_TIED = "always tied"  # it takes the token embedding, whatever there is


@dataclass(frozen=True, slots=True)
class Rule:
    """What is made of the tensors whose name matches."""

    pattern: re.Pattern[str]
    action: Action


@dataclass(frozen=True, slots=True)
class Projector:
    """How an encoder of pictures is imported, as a second GGUF of architecture `clip`. Keys are without `clip.`."""

    metadata: Callable[[HubConfig, Checkpoint], Metadata]  # of the whole config
    rules: tuple[Rule, ...] = ()
    more_tensors: Callable[[HubConfig, Checkpoint, Mapping[str, Weight]], Mapping[str, Weight]] = (
        lambda _config, _checkpoint, _weights: {}
    )
    renames: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """How one architecture is imported. Keys of metadata are without the architecture's name before them."""

    arch: Any  # gguf.MODEL_ARCH
    metadata: Callable[[HubConfig, Checkpoint], Metadata]  # of the language model's part of the config
    rules: tuple[Rule, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    gather: Gather = lambda weights, _config: dict(weights)
    more_tensors: Callable[[HubConfig, Checkpoint], Mapping[str, Weight]] = lambda _config, _checkpoint: {}
    blocks: Callable[[HubConfig, Checkpoint], int] = lambda config, _checkpoint: config.layers()
    projector: Projector | None = None
    embedding: bool = False
    head: Head = Head.OPTIONAL
    tokenizer: str = ""  # llama.cpp's kind of tokenizer where byte-fallback BPE is not SentencePiece to it
    pre: str = ""  # llama.cpp's name of the pre-tokenizer where the class tells it
    turn_ends: Mapping[str, str] = field(default_factory=dict)  # special kind (eot, eom) -> its token's text

    @property
    def name(self) -> str:
        """GGUF's name of the architecture."""
        return str(gguf.MODEL_ARCH_NAMES[self.arch])


def rule(pattern: str, action: Action) -> Rule:
    """A rule for names in which the pattern is found."""
    return Rule(re.compile(pattern), action)


def drop(*patterns: str) -> Rule:
    """Leaves tensors out that the engine has no use for."""
    return rule("|".join(patterns), lambda _name, _weight, _config: ())


def rename(pattern: str, replacement: str) -> Rule:
    """Writes tensors under another name."""
    compiled = re.compile(pattern)
    return rule(pattern, lambda name, weight, _config: [(compiled.sub(replacement, name), weight)])


def change(pattern: str, make: Callable[[str, Weight, HubConfig], Weight]) -> Rule:
    """Writes tensors changed, under their own name."""
    return rule(pattern, lambda name, weight, config: [(name, make(name, weight, config))])


def squeezed(_name: str, weight: Weight, _config: HubConfig) -> Weight:
    """A convolution over time of one channel a row, without the axis of length one."""
    return weight.need_dims(3).need_length(1, axis=1).shaped(weight.shape[0], weight.shape[2])


def add_one(_name: str, weight: Weight, _config: HubConfig) -> Weight:
    """A norm's weight where the checkpoint keeps its distance from one."""
    return weight.computed(lambda values: values + values.dtype.type(1.0))
