"""BERT, XLM-RoBERTa, Nomic BERT and its mixture of experts. Facts: llama.cpp conversion/bert.py, b11549."""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.embedding import pooling
from corral.convert.family import Family, Made, Metadata, change, drop, rule
from corral.convert.hubconfig import HubConfig
from corral.convert.weights import Weight

_UNUSED = drop(r"^embeddings\.position_ids", r"^pooler\.", r"^cls\.", r"^lm_head\.")
_RENAMES = ((r"^(bert|roberta)\.", ""),)


def _bert(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    return {
        "context_length": config.count("max_position_embeddings", "n_ctx"),
        "embedding_length": config.count("hidden_size", "n_embd"),
        "block_count": config.layers(),
        "feed_forward_length": config.count("intermediate_size", "n_inner"),
        "attention.head_count": config.count("num_attention_heads", "n_head"),
        "attention.layer_norm_epsilon": config.number("layer_norm_eps", "layer_norm_epsilon", default=1e-12),
        **pooling(checkpoint),
    }


def _first_position(config: HubConfig) -> int:
    """RoBERTa counts positions from behind the padding token's number."""
    return config.integer("pad_token_id", default=1) + 1


def _roberta(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    data = _bert(config, checkpoint)
    context = config.count("max_position_embeddings") - _first_position(config)
    if context < 1:
        raise config.refuse("max_position_embeddings", f"more than {_first_position(config)}")
    return {**data, "context_length": context}


def _positions(_name: str, weight: Weight, config: HubConfig) -> Weight:
    first = _first_position(config)
    weight.need_dims(2).need_length(config.count("max_position_embeddings"))
    return weight.cut(first, weight.shape[0])


def _nomic(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    trained = config.count("max_trained_positions", default=2048)
    limited = HubConfig({**config.values, "max_position_embeddings": min(config.count("n_positions"), trained)})
    base = config.number("rotary_emb_base", default=10000.0)
    return {**_bert(limited, checkpoint), "rope.freq_base": base}


def _nomic_moe(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    return {
        **_nomic(config, checkpoint),
        "moe_every_n_layers": config.count("moe_every_n_layers"),
        "expert_count": config.count("num_experts"),
        "expert_used_count": config.count("moe_top_k"),
    }


def _experts(name: str, weight: Weight, config: HubConfig) -> Made:
    """All experts' rows below each other; those of the second matrix stand transposed."""
    experts, width = config.count("num_experts"), config.count("n_inner")
    weight.need_dims(2).need_length(experts * width)
    stack = weight.shaped(experts, width, weight.shape[1])
    yield f"{name}.weight", stack.transposed() if name.endswith("w2") else stack


_NOMIC = Family(gguf.MODEL_ARCH.NOMIC_BERT, _nomic, (_UNUSED,), _RENAMES, embedding=True)
_NOMIC_MOE = Family(
    gguf.MODEL_ARCH.NOMIC_BERT_MOE,
    _nomic_moe,
    (_UNUSED, drop(r"\.mlp\.experts\.bias$"), rule(r"\.mlp\.experts\.mlp\.w[12]$", _experts)),
    _RENAMES,
    embedding=True,
)


def choose_nomic(config: HubConfig) -> Family:
    """Both kinds go by one class."""
    return _NOMIC_MOE if config.integer("moe_every_n_layers", default=0) else _NOMIC


FAMILIES = {
    "BertModel": Family(gguf.MODEL_ARCH.BERT, _bert, (_UNUSED,), _RENAMES, embedding=True),
    "XLMRobertaModel": Family(
        gguf.MODEL_ARCH.BERT,
        _roberta,
        (_UNUSED, change(r"^embeddings\.position_embeddings\.weight$", _positions)),
        _RENAMES,
        embedding=True,
    ),
}
