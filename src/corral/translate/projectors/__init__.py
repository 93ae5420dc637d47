"""The eyes and ears inside Ollama's monolithic files, as the projector's file of llama.cpp; a module a family."""

from corral.translate.family import Projector
from corral.translate.projectors import (
    deepseekocr,
    gemma3,
    gemma4,
    glmocr,
    llama4,
    llava,
    mistral3,
    nemotron,
    qwen3vl,
    qwen25vl,
)

# by the architecture that the file names; `clip` are files that are a projector alone
PROJECTORS: dict[str, Projector] = {
    "clip": llava.PROJECTOR,
    "deepseekocr": deepseekocr.PROJECTOR,
    "gemma3": gemma3.PROJECTOR,
    "gemma4": gemma4.PROJECTOR,
    "glmocr": glmocr.PROJECTOR,
    "llama4": llama4.PROJECTOR,
    "mistral3": mistral3.PROJECTOR,
    "nemotron_h_omni": nemotron.PROJECTOR,
    "qwen25vl": qwen25vl.PROJECTOR,
    "qwen35": qwen3vl.QWEN35,
    "qwen35moe": qwen3vl.QWEN35,
    "qwen3vl": qwen3vl.QWEN3VL,
    "qwen3vlmoe": qwen3vl.QWEN3VL,
}
