"""Ollama's layouts of text models: a module a family, each with a `FAMILY`. Source: ollama llama/compat, 2026-08."""

from corral.translate.families import gptoss
from corral.translate.family import Family

_ALL: tuple[Family, ...] = (gptoss.FAMILY,)

# by the architecture that the file names; the first that recognizes a file has it
FAMILIES: dict[str, tuple[Family, ...]] = {
    architecture: tuple(family for family in _ALL if architecture in family.architectures)
    for architecture in {name for family in _ALL for name in family.architectures}
}
