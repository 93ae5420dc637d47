"""What a config asks for and the engine's architecture does not do: told to the caller, since answers differ by it."""

from __future__ import annotations

from corral.convert.hubconfig import HubConfig
from corral.core import Notice

# Their experts' shares are always made to sum to one. Source: llama.cpp models/*.cpp, build_moe_ffn, b11549.
_SHARES_OF_ONE = {"qwen3moe", "qwen3vlmoe", "qwen3next", "qwen35moe", "lfm2moe"}
_WINDOWED = {"mistral", "mixtral", "ministral", "ministral3"}  # the others say whether theirs is used
_NO_WINDOWS = {"llama", "mistral3", "qwen2", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe"}


def unheeded(config: HubConfig, architecture: str) -> list[Notice]:
    """A notice for each."""
    found = []
    if architecture in _SHARES_OF_ONE and config.values.get("norm_topk_prob") is False:
        message = f"config.json: norm_topk_prob is false; in {architecture} the engine makes experts' shares sum to one"
        found.append(Notice("expert_shares_changed", message, {"architecture": architecture}))
    window = _window(config)
    if architecture in _NO_WINDOWS and window and window < config.integer("max_position_embeddings", default=0):
        message = f"attention looks at the whole context: {architecture} has no windows, of which config.json speaks"
        found.append(Notice("sliding_window_dropped", message, {"architecture": architecture, "window": window}))
    return found


def _window(config: HubConfig) -> int:
    """How far back a token looks in some layer; 0 = to the beginning."""
    kind = config.text("model_type", default="")
    is_used = config.flag("use_sliding_window", default=kind in _WINDOWED)
    return config.integer("sliding_window") if is_used and config.has("sliding_window") else 0
