"""A safetensors checkpoint to one GGUF file, a tensor at a time."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from corral.convert.checkpoint import Array, Checkpoint, CheckpointTensor
from corral.convert.families import Family, config_of, find_family
from corral.convert.vocabulary import SPECIAL_KEYS, Vocabulary, read_vocabulary
from corral.core import Notice
from corral.errors import InvalidRequest

logger = logging.getLogger(__name__)
_BLOCK = re.compile(r"blk\.(\d+)\.")
_FILE_TYPE_F16 = 1
_QUANTIZATION_VERSION = 2


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    """What came out: the file, GGUF's architecture name, and what the caller must be told."""

    path: Path
    architecture: str
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class _Output:
    """A tensor to write: where it comes from and the type it is stored as."""

    name: str
    shape: tuple[int, ...]
    kind: Any  # gguf.GGMLQuantizationType
    source: CheckpointTensor | Array
    change: Callable[[Array], Array] | None = None

    @property
    def size_bytes(self) -> int:
        width = 4 if self.kind == gguf.GGMLQuantizationType.F32 else 2
        return int(np.prod(self.shape, dtype=np.int64)) * width

    def values(self) -> Array:
        """The tensor's values as stored; bfloat16 as its raw bits."""
        raw = self.source.read() if isinstance(self.source, CheckpointTensor) else self.source
        if self.kind == gguf.GGMLQuantizationType.BF16 and self.change is None:
            return np.ascontiguousarray(raw).view(np.uint8)
        floats = self.source.read_float32() if isinstance(self.source, CheckpointTensor) else raw
        floats = self.change(floats) if self.change else floats
        if self.kind == gguf.GGMLQuantizationType.F32:
            return np.ascontiguousarray(floats, np.float32)
        if self.kind == gguf.GGMLQuantizationType.BF16:
            bits = np.ascontiguousarray(floats, np.float32).view(np.uint32)
            return (bits >> 16).astype(np.uint16).view(np.uint8)
        return np.ascontiguousarray(floats, np.float16)


def convert_directory(
    files: Mapping[str, Path], out: Path, progress: Callable[[int, int], None] | None = None
) -> ConvertedModel:
    """Write the checkpoint in `files` (relative slash path → local file) to `out` as GGUF v3.

    `progress(done_bytes, total_bytes)` is called after each tensor. Raises InvalidRequest naming the file and what is
    wrong; `out` may then be half-written and is the caller's to remove.
    """
    checkpoint = Checkpoint(files)
    family = find_family(checkpoint)
    config = config_of(checkpoint)
    vocabulary = read_vocabulary(checkpoint)
    outputs = _plan_tensors(checkpoint, family, config)
    notices = _fit_vocabulary(vocabulary, outputs)
    writer = gguf.GGUFWriter(None, family.name)
    _add_metadata(writer, family.name, family.metadata(checkpoint, config))
    _add_vocabulary(writer, vocabulary, config if family.embedding else {})
    for output in outputs:
        raw = output.kind if output.kind == gguf.GGMLQuantizationType.BF16 else None
        shape = (*output.shape[:-1], output.shape[-1] * 2) if raw else output.shape  # raw types are counted in bytes
        dtype = np.dtype(np.float32 if output.kind == gguf.GGMLQuantizationType.F32 else np.float16)
        writer.add_tensor_info(
            output.name, shape, np.dtype(np.uint8) if raw else dtype, output.size_bytes, raw_dtype=raw
        )
    _write(writer, out, outputs, progress)
    return ConvertedModel(out, family.name, tuple(notices))


def _write(writer: Any, out: Path, outputs: list[_Output], progress: Callable[[int, int], None] | None) -> None:
    total, done = sum(output.size_bytes for output in outputs), 0
    writer.write_header_to_file(out)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        for output in outputs:
            writer.write_tensor_data(output.values())
            done += output.size_bytes
            if progress is not None:
                progress(done, total)
    finally:
        writer.close()


def _plan_tensors(checkpoint: Checkpoint, family: Family, config: Mapping[str, Any]) -> list[_Output]:
    blocks = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    names = gguf.get_tensor_name_map(family.arch, blocks)
    outputs = []
    for tensor in checkpoint.tensors().values():
        plain = _strip(tensor.name, family.prefixes)
        if plain is None or plain.startswith(family.drops or ("\0",)) or plain.endswith(".rotary_emb.inv_freq"):
            continue
        name = names.get_name(plain, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise InvalidRequest(f"tensor {tensor.name!r} is not one of {family.name}'s", field="files")
        outputs.append(_output(name, plain, tensor, family, config))
    tied = config.get("tie_word_embeddings")
    if tied and any(output.name == "token_embd.weight" for output in outputs):
        outputs = [output for output in outputs if output.name != "output.weight"]
    float32 = gguf.GGMLQuantizationType.F32
    outputs += [_Output(name, values.shape, float32, values) for name, values in family.more_tensors(config).items()]
    return sorted(outputs, key=lambda output: _order(output.name))


def _strip(name: str, prefixes: tuple[str, ...]) -> str | None:
    """A name without outer module names; None for the vision half of a multimodal checkpoint."""
    if name.startswith(
        ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
    ):
        return None
    for prefix in prefixes:
        name = name.removeprefix(prefix)
        name = name.replace(f"model.{prefix}", "model.", 1)
    return name


def _output(name: str, plain: str, tensor: CheckpointTensor, family: Family, config: Mapping[str, Any]) -> _Output:
    kinds = gguf.GGMLQuantizationType
    kind = kinds.BF16 if tensor.dtype == "BF16" else kinds.F16
    if len(tensor.shape) <= 1 or name.endswith(".bias") or name == "token_types.weight":
        kind = kinds.F32
    change = (lambda values: family.change(plain, values, config)) if family.changes(plain) else None
    return _Output(name, tensor.shape, kind, tensor, change)


def _order(name: str) -> tuple[int, str]:
    match = _BLOCK.match(name)
    return (int(match.group(1)) if match else -1, name)


def _fit_vocabulary(vocabulary: Vocabulary, outputs: list[_Output]) -> list[Notice]:
    """Pad the vocabulary to the embedding's rows, which the engine demands to be equal."""
    rows = next((output.shape[0] for output in outputs if output.name == "token_embd.weight"), 0)
    if len(vocabulary.tokens) > rows:
        raise InvalidRequest(f"the tokenizer has {len(vocabulary.tokens)} tokens, the model only {rows}", field="files")
    vocabulary.pad_to(rows)
    if vocabulary.pre_is_known:
        return []
    message = "the tokenizer's splitting rule is not known; the default one is used, which may cost quality"
    return [Notice("pre_tokenizer_unknown", message)]


def _add_metadata(writer: Any, arch: str, metadata: Mapping[str, Any]) -> None:
    writer.add_file_type(_FILE_TYPE_F16)
    writer.add_quantization_version(_QUANTIZATION_VERSION)
    for key, value in sorted(metadata.items()):
        name = f"{arch}.{key}"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, int(value))


def _add_vocabulary(writer: Any, vocabulary: Vocabulary, embedding_config: Mapping[str, Any]) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if embedding_config:
        writer.add_token_type_count(int(embedding_config.get("type_vocab_size") or 1))
    for kind, number in vocabulary.special.items():
        writer.add_uint32(f"tokenizer.ggml.{SPECIAL_KEYS.get(kind, kind)}_token_id", number)
    for kind, wanted in vocabulary.add.items():
        writer.add_bool(f"tokenizer.ggml.add_{kind}_token", wanted)
    if len(vocabulary.end_ids) > 1:
        writer.add_array("tokenizer.ggml.eos_token_ids", list(vocabulary.end_ids))
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)
