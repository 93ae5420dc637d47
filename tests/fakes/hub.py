"""Library files of the kit turned back into the hub-style safetensors checkpoints that they came from.

The inverse of what Ollama's converter did (Source: ollama convert/*.go, 2026-08): names and permutations per family
(hubfamilies.py), config.json, and the tokenizer's files from the GGUF's tokens, types, scores and merges.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
JSON = dict[str, Any]

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED_END = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (f"{_WORD}{_UPPER}*{_LOWER}+", f"{_WORD}{_UPPER}+{_LOWER}*")
SPLITS = {
    "llama3": f"{_CONTRACTIONS}|{_WORD}" + r"\p{L}+|\p{N}{1,3}" + _END,
    "qwen2": f"{_CONTRACTIONS}|{_WORD}" + r"\p{L}+|\p{N}" + _END,
    "qwen35": f"{_CONTRACTIONS}|{_WORD}" + r"[\p{L}\p{M}]+|\p{N}" + _END.replace(r"\s\p{L}\p{N}", r"\s\p{L}\p{M}\p{N}"),
    "gpt-4o": "|".join(f"{word}{_CONTRACTIONS}?" for word in _CASED) + r"|\p{N}{1,3}" + _CASED_END,
    "of nobody": ".+",
    "tekken": "|".join(_CASED) + r"|\p{N}" + _CASED_END,
}


class LibraryFile:
    """A GGUF's values and tensors; `take` hands each tensor out once, so that what was forgotten is known."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self._fields = {name: field.contents() for name, field in reader.fields.items()}
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.architecture = str(self._fields["general.architecture"])
        self.has_output = "output.weight" in self._tensors

    def get(self, key: str, default: Any = None) -> Any:
        """A value; keys without a namespace are looked up under the architecture."""
        return self._fields.get(f"{self.architecture}.{key}", self._fields.get(key, default))

    def names(self) -> list[str]:
        """The tensors that nobody has taken."""
        return list(self._tensors)

    def take(self, name: str) -> Array:
        """A tensor's values as float32, rows first."""
        tensor = self._tensors.pop(name)
        return np.array(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)

    def take_blocks(self, name: str) -> Array:
        """A quantized tensor's blocks as bytes: (…, row, bytes of a row)."""
        return np.array(self._tensors.pop(name).data)


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write bytes as U8, and values in the narrowest of BF16, F16 and F32 that holds them exactly."""
    table: JSON = {}
    offset, parts = 0, []
    for name, values in tensors.items():
        dtype, data = _stored(np.ascontiguousarray(values))
        table[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        parts.append(data)
    head = json.dumps(table).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(parts))


def _stored(values: Array) -> tuple[str, bytes]:
    if values.dtype == np.uint8:
        return "U8", values.tobytes()
    floats = values.astype(np.float32)
    bits = floats.view(np.uint32)
    if not (bits & 0xFFFF).any():
        return "BF16", (bits >> 16).astype(np.uint16).tobytes()
    halves = floats.astype(np.float16)
    if np.array_equal(halves.astype(np.float32), floats):
        return "F16", halves.tobytes()
    return "F32", floats.tobytes()


def write_tokenizer(folder: Path, file: LibraryFile, split: str) -> None:
    """tokenizer.json, or tokenizer.model for SentencePiece vocabularies, and the special tokens by name."""
    tokens, types = file.get("tokenizer.ggml.tokens"), file.get("tokenizer.ggml.token_type")
    special: JSON = {}
    for kind, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = file.get(f"tokenizer.ggml.{key}_token_id")
        if number is not None:
            special[f"{kind}_token"] = {"content": tokens[number]}
        if file.get(f"tokenizer.ggml.add_{key}_token") is not None:
            special[f"add_{kind}_token"] = bool(file.get(f"tokenizer.ggml.add_{key}_token"))
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    if file.get("tokenizer.chat_template"):
        (folder / "chat_template.jinja").write_text(file.get("tokenizer.chat_template"))
    if file.get("tokenizer.ggml.eos_token_ids"):
        ends = [int(number) for number in file.get("tokenizer.ggml.eos_token_ids")]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    if file.get("tokenizer.ggml.model") == "llama" and split != "merges":
        _write_sentencepiece(folder, tokens, types, file.get("tokenizer.ggml.scores"))
        return
    added = [
        {"id": number, "content": text, "special": types[number] == gguf.TokenType.CONTROL}
        for number, text in enumerate(tokens)
        if types[number] in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)
    ]
    pieces = {text: number for number, text in enumerate(tokens) if types[number] == gguf.TokenType.NORMAL}
    tokenizer: JSON = {
        "added_tokens": added,
        "model": {"type": "BPE", "vocab": pieces, "merges": file.get("tokenizer.ggml.merges")},
    }
    if split == "merges":  # byte-fallback BPE: blanks become a letter, nothing is put before a text
        tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
        tokenizer["model"]["byte_fallback"] = True
    else:
        splits = [{"type": "Split", "pattern": {"Regex": SPLITS[split]}}, {"type": "ByteLevel"}]
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splits}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def _write_sentencepiece(folder: Path, tokens: list[str], types: list[int], scores: list[float]) -> None:
    """tokenizer.model as a protocol buffer, without a blank before texts; tokens added later beside it."""
    message = b""
    added = {}
    for number, (text, kind, score) in enumerate(zip(tokens, types, scores, strict=True)):
        if kind == gguf.TokenType.USER_DEFINED:
            added[text] = number
            continue
        piece = _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        message += _field(1, piece)
    message += _field(2, b"\x98\x02\x01")  # trainer_spec.byte_fallback = true
    message += _field(3, b"\x18\x00")  # normalizer_spec.add_dummy_prefix = false
    (folder / "tokenizer.model").write_bytes(message)
    (folder / "added_tokens.json").write_text(json.dumps(added))


def _field(number: int, data: bytes) -> bytes:
    size, length = b"", len(data)
    while length >= 0x80:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data
