"""Tiny checkpoints of the true architectures with weights that anybody can make again from a seed.

`tests/golden/convert.json` holds, for each family, its config, its tensors' shapes and the logits that `transformers`
computed with exactly these weights (tests/golden/make_convert_reference.py).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VOCAB_SIZE = 320


def weights(name: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """The values of one tensor: small, seeded by its name, exactly representable in 16 bits."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(tuple(shape)).astype(np.float32) * 0.08
    around_one = ("norm.weight", "layer_scalar", "router.scale", "per_expert_scale", "output_scale", "mixer.D")
    if name.endswith(around_one) or ".norm" in name or "LayerNorm.weight" in name or "layernorm" in name:
        values = values + np.float32(1.0)
    return values.astype(np.float16).astype(np.float32)


def byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins for the 256 byte values, in byte order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_in = {byte: chr(byte) for byte in printable}
    for count, byte in enumerate(byte for byte in range(256) if byte not in stand_in):
        stand_in[byte] = chr(256 + count)
    return [stand_in[byte] for byte in range(256)]


def tokenizer_json() -> dict[str, Any]:
    """A byte-level BPE tokenizer of VOCAB_SIZE tokens with a handful of merges."""
    tokens = byte_tokens()
    merges = []
    for pair in ("t h", "th e", "i n", "a n", "an d", "e r", "Ġ t", "Ġt h", "Ġ a"):
        merges.append(pair)
        tokens.append(pair.replace(" ", ""))
    specials = ["<|begin|>", "<|end|>", "<|pad|>"]
    while len(tokens) + len(specials) < VOCAB_SIZE:
        tokens.append(f"word{len(tokens)}")
    added = [{"id": len(tokens) + i, "content": text, "special": True} for i, text in enumerate(specials)]
    model = {"type": "BPE", "vocab": {text: i for i, text in enumerate(tokens)}, "merges": merges}
    pre = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": pre,
        "model": model,
        "decoder": {"type": "ByteLevel"},
    }


def wordpiece_json() -> dict[str, Any]:
    """A WordPiece tokenizer of VOCAB_SIZE tokens."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?"
    tokens = [*specials, *letters, *(f"##{letter}" for letter in letters), "the", "sky", "is", "blue", "##ing"]
    while len(tokens) < VOCAB_SIZE:
        tokens.append(f"word{len(tokens)}")
    added = [{"id": i, "content": text, "special": True} for i, text in enumerate(specials)]
    vocab = {text: i for i, text in enumerate(tokens)}
    model = {"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    return {"version": "1.0", "added_tokens": added, "normalizer": {"type": "BertNormalizer"}, "model": model}


def write_float8(
    path: Path, tensors: Mapping[str, npt.NDArray[np.float32]], block: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Write matrices as F8_E4M3 with a scale a block, the rest as F32; returns what they hold now."""
    normal = ((1 + np.arange(8) / 8) * 2.0**exponent for exponent in range(-6, 9))
    magnitudes = np.concatenate([np.arange(8) * 2.0**-9, *normal])[:127]
    stored: dict[str, tuple[str, npt.NDArray[Any]]] = {}
    held: dict[str, npt.NDArray[np.float32]] = {}
    for name, values in tensors.items():
        if values.ndim != 2 or min(values.shape) < block or "embed" in name or "lm_head" in name:
            stored[name], held[name] = ("F32", values), values
            continue
        rows, columns = (-(-n // block) for n in values.shape)
        scale = np.zeros((rows, columns), np.float32)
        spread = np.zeros_like(values)
        for i in range(rows):
            for j in range(columns):
                at = np.s_[i * block : (i + 1) * block, j * block : (j + 1) * block]
                scale[i, j] = np.abs(values[at]).max() / 448
                spread[at] = scale[i, j]
        codes = np.abs(np.abs(values / spread)[..., None] - magnitudes).argmin(-1).astype(np.uint8)
        held[name] = (np.sign(values) * magnitudes[codes] * spread).astype(np.float32)
        stored[name] = ("F8_E4M3", codes | np.where(values < 0, 0x80, 0).astype(np.uint8))
        stored[f"{name}_scale_inv"] = ("F32", scale)
    table: dict[str, Any] = {}
    offset = 0
    for name, (dtype, array) in stored.items():
        table[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    head = json.dumps(table).encode()
    body = b"".join(np.ascontiguousarray(array).tobytes() for _, array in stored.values())
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)
    return held


def write_adapter(folder: Path, settings: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> dict[str, Path]:
    """Write a PEFT adapter into `folder`; returns the files as `convert_adapter` takes them."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file({name: weights(name, shape) for name, shape in shapes.items()}, folder / "adapter_model.safetensors")
    return {path.name: path for path in sorted(folder.iterdir())}


def write_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    tokenizer: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Write config, tokenizer and weights into `folder`; returns the files as `convert_directory` takes them."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    embedding = "bert" in str(config["model_type"])  # RoBERTa's name has it too
    (folder / "config.json").write_text(json.dumps(config))
    usual = wordpiece_json() if embedding else tokenizer_json()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer or usual))
    names = {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    special = names if embedding else {"bos_token": "<|begin|>", "eos_token": "<|end|>", "add_bos_token": False}
    if tokenizer:
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    if embedding:
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    save_file({name: weights(name, shape) for name, shape in shapes.items()}, folder / "model.safetensors")
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
