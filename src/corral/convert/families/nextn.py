"""Layers that draft the token after next: behind the others in a checkpoint, blocks with further parts in a GGUF.

The engine runs them only as drafts; a model without them loads as well. Facts: llama.cpp llama-arch.cpp
LLM_TENSOR_NEXTN_*, b11549.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from corral.convert.checkpoint import Checkpoint
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight

_BLOCK = re.compile(r"^model\.layers\.(\d{1,4})\.(.+)$")
_QWEN = re.compile(r"^(?:model\.)?mtp\.layers\.(\d{1,3})\.(.+)$")
_PARTS = {
    "eh_proj.weight": "eh_proj.weight",
    "enorm.weight": "enorm.weight",
    "hnorm.weight": "hnorm.weight",
    "embed_tokens.weight": "embed_tokens.weight",
    "shared_head.head.weight": "shared_head_head.weight",
    "shared_head.norm.weight": "shared_head_norm.weight",
}
_QWEN_PARTS = {
    "fc.weight": "eh_proj.weight",
    "pre_fc_norm_embedding.weight": "enorm.weight",
    "pre_fc_norm_hidden.weight": "hnorm.weight",
    "norm.weight": "shared_head_norm.weight",
}


def draft_layers(config: HubConfig, checkpoint: Checkpoint) -> int:
    """How many there are: the tensors tell, since configs promise layers that a checkpoint lacks, or keep silent."""
    trunk = config.layers()
    last = -1
    for name in checkpoint.tensors():
        qwen, block = _QWEN.match(name), _BLOCK.match(name.replace("language_model.", ""))
        if qwen:
            last = max(last, int(qwen[1]))
        elif block:
            last = max(last, int(block[1]) - trunk)
    return last + 1


def all_blocks(config: HubConfig, checkpoint: Checkpoint) -> int:
    """Blocks of the GGUF: layers and draft layers."""
    return config.layers() + draft_layers(config, checkpoint)


def rename_drafts(weights: Mapping[str, Weight], config: HubConfig) -> dict[str, Weight]:
    """Draft layers under their block's number, and their own parts under GGUF's names."""
    trunk = config.layers()
    found = {}
    for name, weight in weights.items():
        qwen, block = _QWEN.match(name), _BLOCK.match(name)
        part = _QWEN_PARTS.get(name.removeprefix("model.").removeprefix("mtp."))
        if qwen:
            found[f"model.layers.{trunk + int(qwen[1])}.{qwen[2]}"] = weight
        elif part and name.startswith(("mtp.", "model.mtp.")):
            found[f"blk.{trunk}.nextn.{part}"] = weight
        elif block and int(block[1]) >= trunk and block[2] in _PARTS:
            found[f"blk.{block[1]}.nextn.{_PARTS[block[2]]}"] = weight
        else:
            found[name] = weight
    return found
