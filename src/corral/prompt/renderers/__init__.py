"""Prompts of models whose config names a renderer: one module a family, byte for byte as Ollama's own. Pure.

registry                                          name → renderer; what a renderer is
cogito … qwen35                                   the families
history, imagetags, tooljson, qwencalls, gemmavalues   what several of them share
"""
