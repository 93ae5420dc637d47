"""Qwen 2 and 3, their mixtures of experts, and the ones with eyes: 2.5 VL, 3 VL and 3 VL MoE.

Facts: llama.cpp conversion/qwen.py, qwenvl.py and qwen3vl.py, b11549.
"""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import decoder, packed_experts
from corral.convert.family import Family, Made, Metadata, rename, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.qwen3vl import QWEN3VL
from corral.convert.projectors.qwen25vl import QWEN25VL
from corral.convert.weights import Weight


def _qwen3vl(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    """The eye's inner layers that feed the first layers of the text are counted, not named."""
    layers = config.section("vision_config").integers("deepstack_visual_indexes", default=[])
    return {**decoder(config, checkpoint), "n_deepstack_layers": len(layers)}


def _turned_experts(name: str, weight: Weight, config: HubConfig) -> Made:
    """Qwen 3 VL keeps packed experts transposed: (expert, embedding, 2 x width) and (expert, width, embedding)."""
    weight.need_dims(3)
    embedding, gate_up = config.count("hidden_size"), ".gate_up_proj" in name
    if weight.shape[1 if gate_up else 2] == embedding:
        weight = weight.transposed()
    yield from packed_experts(name, weight, config) if gate_up else [(name.removesuffix(".weight") + ".weight", weight)]


_PACKED = (
    rule(r"\.experts\.gate_up_proj(\.weight)?$", packed_experts),
    rename(r"\.experts\.down_proj$", ".experts.down_proj.weight"),
)
_TURNED = (rule(r"\.experts\.(gate_up|down)_proj(\.weight)?$", _turned_experts),)
_ARCH = gguf.MODEL_ARCH
_QWEN25VL = Family(_ARCH.QWEN2VL, decoder, projector=QWEN25VL, pre="qwen2")

FAMILIES = {
    "Qwen2ForCausalLM": Family(_ARCH.QWEN2, decoder),
    "Qwen3ForCausalLM": Family(_ARCH.QWEN3, decoder),
    "Qwen3MoeForCausalLM": Family(_ARCH.QWEN3MOE, decoder, _PACKED),
    "Qwen2_5_VLForConditionalGeneration": _QWEN25VL,
    "Qwen3VLForConditionalGeneration": Family(_ARCH.QWEN3VL, _qwen3vl, projector=QWEN3VL, pre="qwen2"),
    "Qwen3VLMoeForConditionalGeneration": Family(_ARCH.QWEN3VLMOE, _qwen3vl, _TURNED, projector=QWEN3VL, pre="qwen2"),
}
