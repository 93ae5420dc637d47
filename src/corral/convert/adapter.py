"""A safetensors LoRA adapter (PEFT or MLX) to a GGUF adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import gguf
import numpy as np

from corral.convert.checkpoint import Checkpoint
from corral.convert.rotary import interleave_rotary
from corral.errors import InvalidRequest

_PREFIX = re.compile(r"^(base_model\.model\.)?")
_PART = re.compile(r"\.(lora_A|lora_B|lora_a|lora_b)(\.default)?(\.weight)?$")


class BaseHeader(Protocol):
    """What is needed to know of the base model: its GGUF header."""

    @property
    def architecture(self) -> str:
        """GGUF's name of the architecture."""

    def get(self, key: str, default: Any = None) -> Any:
        """A metadata value; keys without a namespace are looked up under the architecture."""


def convert_adapter(files: Mapping[str, Path], base: BaseHeader, out: Path) -> Path:
    """Write the adapter in `files` for a base model to `out`. Raises InvalidRequest naming what is wrong."""
    checkpoint = Checkpoint(files)
    settings = checkpoint.json("adapter_config.json")
    if not settings:
        raise InvalidRequest("adapter_config.json is missing", field="adapters")
    by_name = {arch_name: arch for arch, arch_name in gguf.MODEL_ARCH_NAMES.items()}
    if base.architecture not in by_name:
        raise InvalidRequest("unsupported architecture", field="adapters")
    nested = settings.get("lora_parameters") or {}
    alpha = nested.get("alpha") or settings.get("lora_alpha") or nested.get("rank") or settings.get("r") or 1
    names = gguf.get_tensor_name_map(by_name[base.architecture], int(base.get("block_count", 0)))
    writer = gguf.GGUFWriter(out, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
    for tensor in sorted(checkpoint.tensors().values(), key=lambda entry: entry.name):
        part = _PART.search(tensor.name)
        if part is None:
            raise InvalidRequest(f"tensor {tensor.name!r} is not part of a LoRA adapter", field="adapters")
        plain = _PREFIX.sub("", tensor.name[: part.start()])
        name = names.get_name(plain + ".weight", try_suffixes=(".weight",))
        if name is None:
            raise InvalidRequest(f"tensor {tensor.name!r} has no counterpart in {base.architecture}", field="adapters")
        values = tensor.read_float32()
        if part.group(1).islower():  # MLX keeps its factors transposed
            values = values.T
        side = part.group(1)[-1].lower()
        if side == "b" and base.architecture == "llama" and name.endswith(("attn_q.weight", "attn_k.weight")):
            key = "attention.head_count" if "attn_q" in name else "attention.head_count_kv"
            values = interleave_rotary(values, int(base.get(key) or base.get("attention.head_count")))
        writer.add_tensor(f"{name}.lora_{side}", np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
