"""DeepSeek V3 and GLM 4.7 Flash: latent attention, experts beside shared ones.

ggml computes attention on the compressed keys and values; so the matrix that unpacks both is cut into one for keys,
transposed, and one for values. Facts: llama.cpp conversion/deepseek.py and glm.py, b11549.
"""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.decoder import PACKED, decoder, rope
from corral.convert.families.nextn import all_blocks, draft_layers, rename_drafts
from corral.convert.families.yarn import for_latent_attention
from corral.convert.family import Family, Made, Metadata, rename, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight

_SIGMOID = 2


def _latent(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    rank, rotated = config.count("kv_lora_rank"), config.count("qk_rope_head_dim")
    drafts, data = draft_layers(config, checkpoint), decoder(config, checkpoint)
    data |= {
        "block_count": config.layers() + drafts,
        "leading_dense_block_count": config.integer("first_k_dense_replace", default=0),
        "attention.head_count_kv": 1,
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rotated,
        "attention.value_length": rank,
        "attention.key_length_mla": config.count("qk_nope_head_dim") + rotated,
        "attention.value_length_mla": config.count("v_head_dim"),
        "rope.dimension_count": rotated,
        "expert_feed_forward_length": config.count("moe_intermediate_size"),
        "expert_shared_count": config.integer("n_shared_experts", default=0),
        "expert_weights_scale": config.number("routed_scaling_factor", default=1.0),
        "expert_weights_norm": config.flag("norm_topk_prob", default=True),
        "expert_gating_func": _SIGMOID,  # of all models of these classes; configs seldom say it
    }
    if config.has("q_lora_rank"):
        data["attention.q_lora_rank"] = config.count("q_lora_rank")
    data.pop("rope.scaling.attn_factor", None)
    data |= for_latent_attention(rope(config))
    if drafts:
        data["nextn_predict_layers"] = drafts
    return data


def _unpacking(name: str, weight: Weight, config: HubConfig) -> Made:
    heads = config.count("num_key_value_heads", "num_attention_heads")
    keys, values = config.count("qk_nope_head_dim"), config.count("v_head_dim")
    weight.need_dims(2).need_length(heads * (keys + values))
    both = weight.shaped(heads, keys + values, weight.shape[1])
    yield name.replace("kv_b_proj", "k_b_proj"), both.cut(0, keys, axis=1).transposed()
    yield name.replace("kv_b_proj", "v_b_proj"), both.cut(keys, keys + values, axis=1)


_RULES = (
    rule(r"\.kv_b_proj\.weight$", _unpacking),
    rename(r"\.e_score_correction_bias$", ".e_score_correction.bias"),
    *PACKED,
)


def _family(pre: str, turn_ends: dict[str, str]) -> Family:
    return Family(
        gguf.MODEL_ARCH.DEEPSEEK2,
        _latent,
        _RULES,
        gather=rename_drafts,
        blocks=all_blocks,
        pre=pre,
        turn_ends=turn_ends,
    )


FAMILIES = {
    "DeepseekV3ForCausalLM": _family("deepseek-v3", {}),
    "Glm4MoeLiteForCausalLM": _family("glm4", {"eot": "<|user|>", "eom": "<|observation|>"}),
}
