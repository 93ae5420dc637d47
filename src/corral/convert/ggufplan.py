"""A GGUF that is planned in full, metadata and tensors, before its first byte is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from corral.convert.family import Value
from corral.convert.outputs import Output
from corral.convert.vocabulary import SPECIAL_KEYS, Vocabulary

logging.getLogger("gguf").setLevel(logging.WARNING)  # it tells every file's endianness
_ANY_TYPE = np.dtype(np.void)  # the library looks at it for tensors without a raw type only
_FILE_TYPE_F16 = 1
_QUANTIZATION_VERSION = 2


@dataclass(frozen=True, slots=True)
class GGUFPlan:
    """What is written. `metadata` has the architecture's own keys, without its name; `general` has whole keys."""

    architecture: str
    metadata: Mapping[str, Value]
    outputs: Sequence[Output]
    general: Mapping[str, Value]
    vocabulary: Vocabulary | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(output.size_bytes for output in self.outputs)

    def write(self, out: Path, progress: Callable[[int], None]) -> None:
        """Write GGUF v3 to `out`; `progress(bytes)` is called after each piece."""
        writer = gguf.GGUFWriter(None, self.architecture)
        writer.add_file_type(_FILE_TYPE_F16)
        writer.add_quantization_version(_QUANTIZATION_VERSION)
        for key, value in sorted(self.general.items()):
            _add(writer, key, value)
        for key, value in sorted(self.metadata.items()):
            _add(writer, f"{self.architecture}.{key}", value)
        if self.vocabulary is not None:
            _add_vocabulary(writer, self.vocabulary)
        for output in self.outputs:
            kind = gguf.GGMLQuantizationType(output.kind)
            writer.add_tensor_info(output.name, output.weight.shape, _ANY_TYPE, output.size_bytes, raw_dtype=kind)
        writer.write_header_to_file(out)
        try:
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            self._write_tensors(writer, progress)
        finally:
            writer.close()

    def _write_tensors(self, writer: Any, progress: Callable[[int], None]) -> None:
        """The library takes whole tensors only; its file takes pieces."""
        file = writer.fout[0]
        writer.write_padding(file, file.tell())
        for output in self.outputs:
            for piece in output.pieces():
                file.write(piece.data)
                progress(piece.nbytes)
            writer.write_padding(file, output.size_bytes)


def _add(writer: Any, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_uint32(key, int(value))


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.token_kinds:
        writer.add_token_type_count(vocabulary.token_kinds)
    for kind, number in vocabulary.special.items():
        writer.add_uint32(f"tokenizer.ggml.{SPECIAL_KEYS.get(kind, kind)}_token_id", number)
    for kind, wanted in vocabulary.add.items():
        writer.add_bool(f"tokenizer.ggml.add_{kind}_token", wanted)
    if vocabulary.add_space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.add_space_prefix)
    if vocabulary.remove_extra_whitespaces is not None:
        writer.add_remove_extra_whitespaces(vocabulary.remove_extra_whitespaces)
    if vocabulary.charsmap:
        writer.add_precompiled_charsmap(vocabulary.charsmap)
    if len(vocabulary.end_ids) > 1:
        writer.add_array("tokenizer.ggml.eos_token_ids", list(vocabulary.end_ids))
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)
