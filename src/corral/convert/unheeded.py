"""What a config asks for and the engine's architecture does not do: told to the caller, since answers differ by it."""

from __future__ import annotations

from corral.convert.families.decoder import rope
from corral.convert.hubconfig import HubConfig
from corral.core import Notice

# Their experts' shares are always made to sum to one. Source: llama.cpp models/*.cpp, build_moe_ffn, b11549.
_SHARES_OF_ONE = {"qwen3moe", "qwen3vlmoe", "qwen3next", "qwen35moe", "lfm2moe"}
_WINDOWED = {"mistral", "mixtral", "ministral", "ministral3"}  # the others say whether theirs is used
_NO_WINDOWS = {"llama", "mistral3", "qwen2", "qwen2vl", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe"}
_WITHOUT_POSITIONS_EVERY = 4  # Llama 4's layers. Source: llama.cpp models/llama4.cpp, b11549
_ROPE_BASE = 10000.0


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
    if architecture == "llama4":
        found += _turned_layers(config)
    if architecture == "olmo2":
        found += _local_base(config)
    return found


def _turned_layers(config: HubConfig) -> list[Notice]:
    """Which layers know positions the engine decides: all but each fourth, without windows all but the last."""
    layers = config.layers()
    is_whole = set(config.texts("layer_types", default=[])) == {"full_attention"}
    step = layers if is_whole else _WITHOUT_POSITIONS_EVERY
    wanted = config.integers("no_rope_layers", default=[])  # ones where a layer has them, whatever the name says
    if not wanted:
        every = config.count("no_rope_layer_interval", default=_WITHOUT_POSITIONS_EVERY)
        wanted = [int((n + 1) % every != 0) for n in range(layers)]
    if len(wanted) != layers:
        raise config.refuse("no_rope_layers", f"{layers} entries")
    others = [n for n in range(layers) if bool(wanted[n]) != ((n + 1) % step != 0)]
    if not others:
        return []
    message = f"config.json: no_rope_layers: in {len(others)} of {layers} layers the engine has it the other way round"
    return [Notice("rope_layers_changed", message, {"architecture": "llama4", "layers": others})]


def _local_base(config: HubConfig) -> list[Notice]:
    base, local = (
        rope(config, kind).positive("rope_theta", default=_ROPE_BASE)
        for kind in ("full_attention", "sliding_attention")
    )
    if base == local or not config.has("sliding_window"):
        return []
    message = f"config.json: layers with windows have the rope_theta of the others, {base:g}, instead of {local:g}"
    return [Notice("local_rope_base_dropped", message, {"architecture": "olmo2", "base": base, "wanted": local})]


def _window(config: HubConfig) -> int:
    """How far back a token looks in some layer; 0 = to the beginning."""
    kind = config.text("model_type", default="")
    is_used = config.flag("use_sliding_window", default=kind in _WINDOWED)
    return config.integer("sliding_window") if is_used and config.has("sliding_window") else 0
