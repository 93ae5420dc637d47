"""sentence-transformers' modules: how an embedding model pools its tokens, and what comes after."""

from __future__ import annotations

from corral.convert.checkpoint import Checkpoint
from corral.convert.family import Metadata
from corral.errors import InvalidRequest

_OF_DECODERS = {"Transformer", "Pooling", "Normalize"}
_MODES = (("mean_tokens", "mean", 1), ("cls_token", "cls", 2), ("lasttoken", "lasttoken", 3))


def modules(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """Kind and folder of each module in order. Raises InvalidRequest when modules.json is absent."""
    listed = checkpoint.json_value("modules.json")
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise InvalidRequest(
            "modules.json is missing: an embedding model needs it to say how tokens are pooled", field="files"
        )
    return [(str(module.get("type", "")).rpartition(".")[2], str(module.get("path", ""))) for module in listed]


def pooling(checkpoint: Checkpoint) -> Metadata:
    """Metadata of the pooling and normalising modules."""
    found = dict(modules(checkpoint))
    number = 0
    if "Pooling" in found:
        modes = checkpoint.json(f"{found['Pooling']}/config.json".lstrip("/"))
        if not modes:
            raise InvalidRequest(f"{found['Pooling']}/config.json is missing", field="files")
        chosen = (code for key, word, code in _MODES if modes.get(f"pooling_mode_{key}") or modes.get(_WORD) == word)
        number = next(chosen, 0)
    return {"pooling_type": number, "normalize_embeddings": "Normalize" in found, "attention.causal": False}


def decoder_pooling(checkpoint: Checkpoint) -> Metadata:
    """The same of a decoder that embeds, whose tokens still look backwards only; {} for one that writes.

    Raises InvalidRequest for a way to pool, or a module behind it, that the engine has not.
    """
    found = dict(modules(checkpoint)) if "modules.json" in checkpoint.files else {}
    if "Pooling" not in found:
        return {}
    others = sorted(set(found) - _OF_DECODERS)
    if others:
        raise InvalidRequest(f"modules.json: the engine has no {others[0]} module for a decoder", field="files")
    data = pooling(checkpoint)
    del data["attention.causal"]
    if not data["pooling_type"]:
        words = ", ".join(word for _, word, _ in _MODES)
        raise InvalidRequest(f"{found['Pooling']}/config.json: the engine pools by {words} only", field="files")
    return data


_WORD = "pooling_mode"  # sentence-transformers 5 writes one word instead of flags
