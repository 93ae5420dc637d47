"""The answer parsers that a model's config may name: what each reads out of an answer, and the tokens it needs to see.

`store/capabilities.py` lists capabilities from it, `answer/parsers/` has a reader for every name, `inference/`
tells the engine not to swallow the tokens. Source: ollama model/parsers/*.go and harmony/, HasToolSupport,
HasThinkingSupport, PreservedTokens, 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParserTraits:
    """One parser; `preserved_tokens` are control tokens of the model that stand in the text its parser gets."""

    tools: bool
    thinking: bool
    preserved_tokens: tuple[str, ...] = ()


_THINK = ("<think>", "</think>")
_CALL = ("<tool_call>", "</tool_call>")
_ARGUMENTS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
_LAGUNA = (*_THINK, *_CALL, "<user>", "</user>", *_ARGUMENTS)
_LFM2 = (*_THINK, "<|tool_call_start|>", "<|tool_call_end|>")
_GEMMA4 = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", '<|"|>')
_DEEPSEEK = (
    "</think>",
    *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    *("<｜tool▁sep｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"),
)
_COHERE = (
    *("<|START_THINKING|>", "<|END_THINKING|>", "<|START_TEXT|>", "<|END_TEXT|>"),
    *("<|START_ACTION|>", "<|END_ACTION|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
)

PARSERS: Mapping[str, ParserTraits] = {
    "cogito": ParserTraits(True, True, (*_DEEPSEEK, "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>")),
    "cohere": ParserTraits(True, True, _COHERE),
    "deepseek3": ParserTraits(True, True, _DEEPSEEK),
    "functiongemma": ParserTraits(True, False, ("<start_function_call>", "<end_function_call>")),
    "gemma4": ParserTraits(True, True, _GEMMA4),
    "gemma4-no-thinking": ParserTraits(True, False, _GEMMA4),
    "glimmer": ParserTraits(True, True, ("<|start|>", "<|message|>", "<|eom|>", "<|eot|>")),
    "glm-4.7": ParserTraits(True, True, (*_THINK, *_CALL, *_ARGUMENTS)),
    "glm-ocr": ParserTraits(True, False, (*_THINK, *_CALL, *_ARGUMENTS)),
    "harmony": ParserTraits(True, True, ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>")),
    "laguna": ParserTraits(True, True, _LAGUNA),
    "lfm2": ParserTraits(True, False, _LFM2),
    "lfm2-thinking": ParserTraits(True, True, _LFM2),
    "ministral": ParserTraits(True, False, ("[TOOL_CALLS]", "[THINK]", "[/THINK]", "[ARGS]")),
    "nemotron-3-nano": ParserTraits(True, True, (*_THINK, *_CALL)),
    "nemotron-3.5-nano": ParserTraits(True, True, (*_THINK, *_CALL)),
    "olmo3": ParserTraits(True, False, ("<function_calls>", "</function_calls>")),
    "olmo3-think": ParserTraits(False, True, ("</think>",)),
    "ornith": ParserTraits(True, True, (*_THINK, *_CALL)),
    "passthrough": ParserTraits(False, False),
    "poolside-v1": ParserTraits(True, True, _LAGUNA),
    "qwen3": ParserTraits(True, False, (*_THINK, *_CALL)),
    "qwen3-coder": ParserTraits(True, False, _CALL),
    "qwen3-thinking": ParserTraits(True, True, (*_THINK, *_CALL)),
    "qwen3-vl-instruct": ParserTraits(True, False, ("</think>", *_CALL)),
    "qwen3-vl-thinking": ParserTraits(True, True, ("</think>", *_CALL)),
    "qwen3.5": ParserTraits(True, True, (*_THINK, *_CALL)),
}
