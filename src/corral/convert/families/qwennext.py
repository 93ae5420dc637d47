"""Qwen 3 Next, Qwen 3.5 and its mixtures: three layers of linear attention to one of full attention.

Where a key head serves several value heads, Qwen 3.5 keeps value heads by key head, while ggml repeats key heads in
turns; so value heads change places. Facts: llama.cpp conversion/qwen.py, b11549.
"""

from __future__ import annotations

import gguf
import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import PACKED, decoder, rotary_width
from corral.convert.families.nextn import all_blocks, draft_layers, rename_drafts
from corral.convert.family import Family, Made, Metadata, Rule, add_one, change, rename, rule, squeezed
from corral.convert.hubconfig import HubConfig
from corral.convert.projectors.qwen3vl import QWEN3VL
from corral.convert.weights import Array, Weight

_DEFAULT_SECTIONS = [11, 11, 10, 0]
_ROTATED_PART = 0.25


class _Heads:
    """The linear attention's heads and widths."""

    def __init__(self, config: HubConfig) -> None:
        self.keys = config.count("linear_num_key_heads")
        self.values = config.count("linear_num_value_heads")
        self.key_width = config.count("linear_key_head_dim")
        self.value_width = config.count("linear_value_head_dim")
        if self.values % self.keys:
            raise config.refuse("linear_num_value_heads", f"a multiple of {self.keys} key heads")
        self.per_key = self.values // self.keys

    @property
    def key_rows(self) -> int:
        return self.keys * self.key_width

    @property
    def value_rows(self) -> int:
        return self.values * self.value_width

    def in_turns(self, width: int) -> Array:
        """Where the entries of value heads in ggml's order stand in the checkpoint's."""
        index = np.arange(self.values * width).reshape(self.keys, self.per_key, width)
        return index.swapaxes(0, 1).reshape(-1)


def _linear(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    heads, data = _Heads(config), decoder(config, checkpoint)
    drafts, layers = draft_layers(config, checkpoint), config.layers()
    every = config.count("full_attention_interval", default=4)
    plan = ["full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(layers)]
    kinds = config.texts("layer_types", default=plan)
    if len(kinds) != layers:
        raise config.refuse("layer_types", f"{layers} entries")
    data |= {
        "block_count": layers + drafts,
        "ssm.conv_kernel": config.count("linear_conv_kernel_dim"),
        "ssm.state_size": heads.key_width,
        "ssm.group_count": heads.keys,
        "ssm.time_step_rank": heads.values,
        "ssm.inner_size": heads.value_rows,
        "attention.recurrent_layers": [kind == "linear_attention" for kind in kinds] + [False] * drafts,
        "full_attention_interval": every,
        "rope.dimension_count": rotary_width(config, _ROTATED_PART),
    }
    if config.has("shared_expert_intermediate_size"):
        data["expert_shared_feed_forward_length"] = config.count("shared_expert_intermediate_size")
    if drafts:
        data["nextn_predict_layers"] = drafts
    return data


def _qwen35(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    return {"rope.dimension_sections": _DEFAULT_SECTIONS, **_linear(config, checkpoint)}


def _decay(_name: str, weight: Weight, _config: HubConfig) -> Weight:
    """A_log as the factor that ggml multiplies with."""
    return weight.computed(lambda values: -np.exp(values))


def _apart(_name: str, weight: Weight, config: HubConfig) -> Made:
    """Qwen 3 Next packs q, k, v and the gate z by key head: as q, k, v of all heads, and z of all heads."""
    heads = _Heads(config)
    widths = [heads.key_width] * 2 + [heads.per_key * heads.value_width] * 2
    edges = np.cumsum([0, *widths])
    block = int(_name.split(".layers.")[1].split(".")[0])
    columns = weight.need_dims(2).need_length(heads.keys * int(edges[-1])).shape[1]
    starts = np.arange(heads.keys)[:, None] * edges[-1]
    q, k, v, z = ((starts + np.arange(edges[i], edges[i + 1])).reshape(-1) for i in range(4))
    both = np.concatenate([q, k, v])
    yield f"blk.{block}.attn_qkv.weight", weight.moved((len(both), columns), lambda values: values[both])
    yield f"blk.{block}.attn_gate.weight", weight.moved((len(z), columns), lambda values: values[z])


def _values_in_turns(name: str, weight: Weight, config: HubConfig) -> Weight:
    """A linear attention's weight with its value heads in ggml's order."""
    heads = _Heads(config)
    if ".conv1d." in name:
        weight = squeezed(name, weight, config)
    width = heads.value_width if any(part in name for part in ("in_proj_qkv", "in_proj_z", "conv1d")) else 1
    if ".out_proj." in name:
        weight.need_dims(2).need_length(heads.value_rows, axis=1)
        columns = heads.in_turns(heads.value_width)
        return weight.moved(weight.shape, lambda values: values[:, columns])
    first = 2 * heads.key_rows if "in_proj_qkv" in name or "conv1d" in name else 0
    weight.need_length(first + heads.values * width)
    rows = heads.in_turns(width)
    order = np.concatenate([np.arange(first), first + rows])
    return weight.moved(weight.shape, lambda values: values[order])


def _decay_in_turns(name: str, weight: Weight, config: HubConfig) -> Weight:
    return _decay(name, _values_in_turns(name, weight, config), config)


def _steps_in_turns(name: str, weight: Weight, config: HubConfig) -> Made:
    yield name.removesuffix("dt_bias") + "dt_proj.bias", _values_in_turns(name, weight, config)


_COMMON: tuple[Rule, ...] = (
    *PACKED,
    change(r"(?<!linear_attn\.)norm\.weight$", add_one),
)
_NEXT = (
    change(r"\.A_log$", _decay),
    rename(r"\.dt_bias$", ".dt_proj.bias"),
    change(r"\.conv1d\.weight$", squeezed),
    rule(r"\.in_proj_qkvz\.weight$", _apart),
    *_COMMON,
)
_QWEN35 = (
    change(r"\.A_log$", _decay_in_turns),
    rule(r"\.dt_bias$", _steps_in_turns),
    change(r"\.linear_attn\.(in_proj_(qkv|z|a|b)|conv1d|out_proj)\.weight$", _values_in_turns),
    *_COMMON,
)
_ARCH = gguf.MODEL_ARCH
_DENSE = Family(
    _ARCH.QWEN35, _qwen35, _QWEN35, gather=rename_drafts, blocks=all_blocks, projector=QWEN3VL, pre="qwen35"
)
_MOE = Family(
    _ARCH.QWEN35MOE, _qwen35, _QWEN35, gather=rename_drafts, blocks=all_blocks, projector=QWEN3VL, pre="qwen35"
)

FAMILIES = {
    "Qwen3NextForCausalLM": Family(
        _ARCH.QWEN3NEXT, _linear, _NEXT, gather=rename_drafts, blocks=all_blocks, pre="qwen2"
    ),
    "Qwen3_5ForConditionalGeneration": _DENSE,
    "Qwen3_5ForCausalLM": _DENSE,
    "Qwen3_5MoeForConditionalGeneration": _MOE,
    "Qwen3_5MoeForCausalLM": _MOE,
}
