"""BERT and Nomic BERT. Facts: llama.cpp conversion/bert.py, b11549."""

from __future__ import annotations

import gguf

from corral.convert.checkpoint import Checkpoint
from corral.convert.families.embedding import pooling
from corral.convert.family import Family, Metadata, drop
from corral.convert.hubconfig import HubConfig

_BERT_ONLY = (drop(r"^embeddings\.position_ids", r"^pooler\.", r"^cls\."),)
_RENAMES = ((r"^bert\.", ""),)


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


def _nomic(config: HubConfig, checkpoint: Checkpoint) -> Metadata:
    trained = config.count("max_trained_positions", default=2048)
    limited = HubConfig({**config.values, "max_position_embeddings": min(config.count("n_positions"), trained)})
    base = config.number("rotary_emb_base", default=10000.0)
    return {**_bert(limited, checkpoint), "rope.freq_base": base}


FAMILIES = {
    "BertModel": Family(gguf.MODEL_ARCH.BERT, _bert, _BERT_ONLY, _RENAMES, embedding=True),
    "NomicBertModel": Family(gguf.MODEL_ARCH.NOMIC_BERT, _nomic, _BERT_ONLY, _RENAMES, embedding=True),
}
