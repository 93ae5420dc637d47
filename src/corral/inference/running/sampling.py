"""Options as the engine's request fields. Pure; called by generate.py and by both ways of chatting.

Source: ollama llm/llama_server.go completionRequest, chatRequest; llama.cpp tools/server/server-schema.cpp, 2026-08.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corral.core import GenerationParameters
from corral.inference.preparing.choices import Choices

_SAME_NAME = (
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "temperature",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_QUICKLY_SORTED = 128  # tokens that the engine finds in one pass over the vocabulary
_SEED_MASK = 2**32 - 1  # the engine's seeds have 32 bits; all ones means random


def sampling_fields(choices: Choices, parameters: GenerationParameters, window: int) -> dict[str, Any]:
    """Fields that /completion and /v1/chat/completions share, with llama.cpp's names; `window` in tokens per slot."""
    values = choices.values
    fields: dict[str, Any] = {name: values[name] for name in _SAME_NAME}
    last_n = values["repeat_last_n"]
    seed = values["seed"]
    fields |= {
        "n_predict": max(1, choices.num_predict(window)),  # 0 still makes a token, which is not passed on
        "n_keep": values["num_keep"],
        "seed": _SEED_MASK if seed < 0 else seed % _SEED_MASK,
        "repeat_last_n": window if last_n < 0 else last_n,
        "cache_prompt": True,
        "return_progress": parameters.progress or parameters.prompt_progress,
    }
    if _is_quickly_greedy(values):
        fields |= {"top_k": int(last_n) + 1, "samplers": ["top_k", "penalties", "temperature"]}
    if values.get("stop"):
        fields["stop"] = values["stop"]
    if parameters.logit_bias:
        fields["logit_bias"] = [[token, bias] for token, bias in parameters.logit_bias.items()]
    return fields


def _is_quickly_greedy(values: Mapping[str, Any]) -> bool:
    """Whether the most probable token after penalties is among the `repeat_last_n` + 1 most probable ones before.

    So it is when they only make tokens less probable, as many as they look back at most. The engine looks each token of
    the vocabulary up among those, which takes 7 % of Gemma 3 270M's time for a token; so the rest is left out before.
    """
    penalties = values["presence_penalty"], values["frequency_penalty"]
    is_penalized = values["repeat_penalty"] != 1.0 or any(penalties)
    only_lowers = values["repeat_penalty"] >= 1.0 and min(penalties) >= 0.0
    is_greedy = values["temperature"] <= 0.0 and values["typical_p"] >= 1.0
    return is_greedy and is_penalized and only_lowers and 0 < values["repeat_last_n"] < _QUICKLY_SORTED


def completion_fields(choices: Choices, parameters: GenerationParameters, window: int) -> dict[str, Any]:
    """Fields of /completion besides the prompt and the constraint."""
    fields = sampling_fields(choices, parameters, window)
    if parameters.logprobs:
        fields["n_probs"] = max(parameters.top_logprobs, 1)
    return fields


def chat_fields(choices: Choices, parameters: GenerationParameters, window: int) -> dict[str, Any]:
    """Fields of /v1/chat/completions besides messages, tools and the constraint."""
    fields = sampling_fields(choices, parameters, window)
    if parameters.logprobs:
        fields |= {"logprobs": True, "top_logprobs": max(parameters.top_logprobs, 1)}
    return fields
