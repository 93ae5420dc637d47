"""The model families that can be imported, by the class that config.json names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from corral.convert.checkpoint import Checkpoint
from corral.convert.families import (
    bert,
    cohere,
    deepseek,
    gemma,
    gemma4,
    glm,
    gptoss,
    lfm2,
    llama,
    llama4,
    nemotron,
    olmo,
    phi,
    qwen,
    qwennext,
)
from corral.convert.family import Family
from corral.convert.hubconfig import HubConfig
from corral.errors import InvalidRequest

FAMILIES: Mapping[str, Family] = {
    **llama.FAMILIES,
    **qwen.FAMILIES,
    **qwennext.FAMILIES,
    **gemma.FAMILIES,
    **gemma4.FAMILIES,
    **llama4.FAMILIES,
    **gptoss.FAMILIES,
    **olmo.FAMILIES,
    **lfm2.FAMILIES,
    **deepseek.FAMILIES,
    **glm.FAMILIES,
    **phi.FAMILIES,
    **cohere.FAMILIES,
    **bert.FAMILIES,
}


CHOICES: Mapping[str, Callable[[HubConfig], Family]] = {
    "NemotronHForCausalLM": nemotron.choose,
    "NomicBertModel": bert.choose_nomic,
}


def class_name(checkpoint: Checkpoint) -> str:
    """`architectures[0]`; raises InvalidRequest without one."""
    architectures = checkpoint.config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise InvalidRequest("unknown architecture", field="files")
    return str(architectures[0])


def find_family(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint's class; raises InvalidRequest `unsupported architecture "X"`."""
    name = class_name(checkpoint)
    if name in CHOICES:
        return CHOICES[name](HubConfig(checkpoint.config))
    family = FAMILIES.get(name)
    if family is None:
        raise InvalidRequest(f'unsupported architecture "{name}"', field="files")
    return family
