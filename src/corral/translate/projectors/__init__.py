"""The eyes and ears inside Ollama's monolithic files, as the projector's file of llama.cpp; a module a family."""

from corral.translate.family import Projector

# by the family's name, or by the architecture of files that are a projector alone (`clip`)
PROJECTORS: dict[str, Projector] = {}
