"""What a config asks for and the engine cannot compute at all: refused by name before anything is written.

Facts: llama.cpp src/models/*.cpp, b11549: load_arch_tensors, build_qkv, llama4.cpp, command-r.cpp, deepseek2.cpp.
"""

from __future__ import annotations

from corral.convert.hubconfig import HubConfig

# They have no place for a bias behind attention, and do not load with a tensor that they do not know.
_WITHOUT_BIASES = {
    "cohere2",
    "command-r",
    "deepseek2",
    "gemma2",
    "gemma3",
    "gemma4",
    "llama4",
    "olmo2",
    "qwen3",
    "qwen35",
    "qwen35moe",
    "qwen3moe",
    "qwen3next",
    "qwen3vl",
    "qwen3vlmoe",
}
_COMMAND_R_PLUS = 64  # layers, by which the engine tells the model whose queries and keys are normed
_MAVERICK = 128  # experts, by which it tells the Llama 4 whose queries and keys are not


def refuse_unloadable(config: HubConfig, architecture: str) -> None:
    """Raises InvalidRequest that names the setting of config.json and what it would have to be."""
    if architecture in _WITHOUT_BIASES and config.flag("attention_bias"):
        raise config.refuse("attention_bias", f"false: the engine's {architecture} has no biases in attention")
    if architecture == "command-r":
        has_norms = config.layers() >= _COMMAND_R_PLUS
        if config.flag("use_qk_norm") != has_norms:
            kind = f"{_COMMAND_R_PLUS} or more" if has_norms else f"fewer than {_COMMAND_R_PLUS}"
            raise config.refuse("use_qk_norm", f"{_word(has_norms)}, as the engine has it with {kind} layers")
    if architecture == "llama4":
        experts = config.integer("num_local_experts", "num_experts", default=0)
        has_norms = experts != _MAVERICK
        if config.flag("use_qk_norm", default=True) != has_norms:
            raise config.refuse("use_qk_norm", f"{_word(has_norms)}, as the engine has it with {experts} experts")
    if architecture == "deepseek2" and not config.flag("rope_interleave", default=True):
        raise config.refuse("rope_interleave", "true: the engine turns neighbouring entries of a head together")


def _word(value: bool) -> str:
    return "true" if value else "false"
