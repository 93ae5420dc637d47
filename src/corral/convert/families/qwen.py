"""Qwen 2 and 3, their mixtures of experts, and the ones with eyes: 2.5 VL, 3 VL and 3 VL MoE.

Facts: llama.cpp conversion/qwen.py, qwenvl.py and qwen3vl.py, b11549.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import PACKED, decoder
from corral.convert.family import Family, Metadata
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.qwen3vl import QWEN3VL
from corral.convert.projectors.qwen25vl import QWEN25VL
from corral.convert.weights import Weight


def _qwen3vl(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    """The eye's inner layers that feed the first layers of the text are counted, not named."""
    layers = config.section("vision_config").integers("deepstack_visual_indexes", default=[])
    return {**decoder(config, checkpoint), "n_deepstack_layers": len(layers)}


def _turned_experts(weights: Mapping[str, Weight], config: HubConfig) -> dict[str, Weight]:
    """Packed experts as the other mixtures have them: Qwen 3 VL's maker keeps them transposed, transformers 5 does not.

    Transposed: (expert, embedding, 2 x width) and (expert, width, embedding). A square matrix tells nothing, but then
    the other of a layer is none.
    """
    return {name: _upright(name, weight, weights, config.count("hidden_size")) for name, weight in weights.items()}


def _upright(name: str, weight: Weight, weights: Mapping[str, Weight], embedding: int) -> Weight:
    match = _EXPERTS.match(name)
    if match is None:
        return weight
    telling = weight.need_dims(3)
    is_gate = match[2] == "gate_up"
    if telling.shape[1] == telling.shape[2]:
        is_gate = not is_gate
        telling = weights.get(f"{match[1]}.{'gate_up' if is_gate else 'down'}_proj{match[3] or ''}", weight).need_dims(
            3
        )
    return weight.transposed() if telling.shape[1 if is_gate else 2] == embedding else weight


_EXPERTS = re.compile(r"^(.*\.experts)\.(gate_up|down)_proj(\.weight)?$")
_ARCH = gguf.MODEL_ARCH
_QWEN25VL = Family(_ARCH.QWEN2VL, decoder, projector=QWEN25VL, pre="qwen2")

FAMILIES = {
    "Qwen2ForCausalLM": Family(_ARCH.QWEN2, decoder),
    "Qwen3ForCausalLM": Family(_ARCH.QWEN3, decoder),
    "Qwen3MoeForCausalLM": Family(_ARCH.QWEN3MOE, decoder, PACKED),
    "Qwen2_5_VLForConditionalGeneration": _QWEN25VL,
    "Qwen3VLForConditionalGeneration": Family(_ARCH.QWEN3VL, _qwen3vl, projector=QWEN3VL, pre="qwen2"),
    "Qwen3VLMoeForConditionalGeneration": Family(
        _ARCH.QWEN3VLMOE, _qwen3vl, PACKED, gather=_turned_experts, projector=QWEN3VL, pre="qwen2"
    ),
}
