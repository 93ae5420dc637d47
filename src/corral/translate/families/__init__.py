"""Ollama's layouts of text models: a module a family, each with a `FAMILY`. Source: ollama llama/compat, 2026-08."""

from corral.translate.families import (
    bert,
    deepseekocr,
    gemma3,
    gemma3n,
    gemma4,
    glm,
    gptoss,
    laguna,
    lfm2,
    llama,
    mistral3,
    nemotron,
    olmo3,
    qwen35,
    qwenvl,
)
from corral.translate.family import Family

_ALL: tuple[Family, ...] = (
    gemma3.EMBEDDING,  # before gemma3, whose architecture it names
    gemma3.CHAT,
    gemma3.CREATED_EMBEDDING,
    gemma3n.FAMILY,
    gemma4.FAMILY,
    gptoss.FAMILY,
    qwen35.DENSE,
    qwen35.EXPERTS,
    qwen35.NEXT,
    qwenvl.QWEN25,
    qwenvl.QWEN3,
    qwenvl.QWEN3_EXPERTS,
    mistral3.FAMILY,
    llama.LLAMA4,
    llama.OLD_LLAMA3,
    glm.FLASH,
    glm.OCR,
    deepseekocr.FAMILY,
    olmo3.FAMILY,
    nemotron.EXPERTS,
    nemotron.OMNI,
    lfm2.FAMILY,
    laguna.FAMILY,
    bert.FAMILY,
)

# by the architecture that the file names; the first that recognizes a file has it
FAMILIES: dict[str, tuple[Family, ...]] = {
    architecture: tuple(family for family in _ALL if architecture in family.architectures)
    for architecture in {name for family in _ALL for name in family.architectures}
}
