"""Corral: a local LLM server, wire- and disk-compatible with Ollama."""

__version__ = "0.33.0"
