"""Which tensor gets which type when a model is quantized: llama.cpp's mixtures, pure functions of names and shapes.

A file type (`Q4_K_M`) names a default tensor type (`Q4_K`) and a set of exceptions: tensors that stay as they are
(norms, gates, small matrices), tensors that matter more and get more bits, tensors whose rows do not divide by the
type's block and fall back. `quantize.py` asks; nothing here reads a file.
Source of the rules: llama.cpp src/llama-quant.cpp at b11549; of OVERRIDES: ollama server/quantization.go, 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from corral.gguf.header import GGUFHeader, TensorInfo
from corral.gguf.types import FILE_TYPES, TENSOR_TYPES

# File types that need no importance matrix, with the type that most of their tensors get.
DEFAULT_TYPES = MappingProxyType(
    {
        "F32": "F32",
        "F16": "F16",
        "BF16": "BF16",
        "Q4_0": "Q4_0",
        "Q4_1": "Q4_1",
        "Q5_0": "Q5_0",
        "Q5_1": "Q5_1",
        "Q8_0": "Q8_0",
        "Q2_K": "Q2_K",
        "Q3_K_S": "Q3_K",
        "Q3_K_M": "Q3_K",
        "Q3_K_L": "Q3_K",
        "Q4_K_S": "Q4_K",
        "Q4_K_M": "Q4_K",
        "Q5_K_S": "Q5_K",
        "Q5_K_M": "Q5_K",
        "Q6_K": "Q6_K",
        "IQ3_S": "IQ3_S",
        "IQ3_M": "IQ3_S",
        "IQ4_NL": "IQ4_NL",
        "IQ4_XS": "IQ4_XS",
    }
)
ALIASES = MappingProxyType({"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"})
FILE_TYPE_NUMBERS = MappingProxyType({name: number for number, name in FILE_TYPES.items()})
FLOAT_TYPES = frozenset(["F32", "F16", "BF16"])

# Tensors of encoders and draft heads that ride in a text model's file; they are copied as they are.
COMPANION_PREFIXES = ("a.", "mm.", "mtp.", "s.", "v.")

_BLOCKS = {name: block for name, block, _ in TENSOR_TYPES.values()}
_FALLBACKS = {
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
_KEPT_NAMES = frozenset(["position_embd.weight", "token_types.weight"])
_KEPT_PARTS = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    *(
        f"time_mix_{part}.weight"
        for part in ("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2")
    ),
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
)
_EMBEDDINGS = frozenset(["token_embd.weight", "per_layer_token_embd.weight"])
_CATEGORIES = (
    ("attn_qkv.weight", "attn_v"),  # fused and compressed values are as sensitive as the values alone
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)
_LAYER = re.compile(r"blk\.(\d+)\.")
_K4 = frozenset(["Q4_K_S", "Q4_K_M"])
_DEEPSEEK_Q8 = ("attn_k_b", "attn_q_a", "attn_q_b", "attn_v_b", "attn_kv_a_mqa")
_GLM_F16 = ((r"^token_embd\.weight$", "F16"), (r"^output\.weight$", "F16"))
_QWEN_Q8 = ((r"^blk\.[0-9]+\.nextn\.eh_proj\.weight$", "Q8_0"),)
OVERRIDES: MappingProxyType[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "qwen35": _QWEN_Q8,
        "qwen35moe": _QWEN_Q8,
        "gemma3n": ((r"^per_layer_token_embd\.weight$", "F16"),),
        "deepseek2": tuple((rf"{name}\.weight$", "Q8_0") for name in _DEEPSEEK_Q8),
        "glmocr": _GLM_F16,
        "glm4": _GLM_F16,
    }
)  # architecture -> (pattern, type), for Q4_K_S and Q4_K_M only
_LAYERS_OF_70B = {"llama": 80, "deci": 80, "qwen2": 80, "olmo": 80, "jais2": 68}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the mixtures need to know of a model."""

    architecture: str
    block_count: int
    expert_count: int = 0
    heads_per_kv_head: int = 1
    is_70b: bool = False

    @classmethod
    def of(cls, header: GGUFHeader) -> ModelShape:
        """Read it from a header; per-layer head counts go by the first layer."""
        heads, kv_heads = (_first(header.get(f"attention.head_count{suffix}")) for suffix in ("", "_kv"))
        blocks = header.integer("block_count")
        is_70b = _LAYERS_OF_70B.get(header.architecture) == blocks
        if header.architecture == "llama" and heads == kv_heads:
            is_70b = False  # the 65B of the first generation
        ratio = heads // kv_heads if kv_heads else int(bool(heads))
        return cls(header.architecture, blocks, header.integer("expert_count"), ratio, is_70b)


def _first(value: object) -> int:
    if value is not None and hasattr(value, "read"):
        items = value.read()
        value = items[0] if items else 0
    return value if isinstance(value, int) else 0


def parse_file_type(text: str) -> str | None:
    """The file type of a request's `quantize`, in any case, aliases resolved; None when there is no such type."""
    name = text.upper()
    name = ALIASES.get(name, name)
    return name if name in DEFAULT_TYPES else None


def in_layer_order(tensors: Iterable[TensorInfo]) -> list[TensorInfo]:
    """Tensors outside the layers by name, then each layer's by name: the order that the mixtures count in."""
    return sorted(tensors, key=lambda tensor: (_layer(tensor.name), tensor.name))


def _layer(name: str) -> int:
    match = _LAYER.match(name)
    return int(match.group(1)) if match else -1


def choose_types(shape: ModelShape, tensors: Sequence[TensorInfo], file_type: str) -> dict[str, str]:
    """Each tensor's type in a file of `file_type`, by name."""
    mixture = _Mixture(shape, tensors, file_type)
    return {tensor.name: mixture.choose(tensor) for tensor in in_layer_order(tensors)}


def may_quantize(tensor: TensorInfo) -> bool:
    """Whether a tensor takes part at all: weight matrices do, except the small and the sensitive ones."""
    name = tensor.name
    return (
        any(extent > 1 for extent in tensor.shape[1:])
        and name.endswith("weight")
        and name not in _KEPT_NAMES
        and not name.startswith(COMPANION_PREFIXES)
        and not any(part in name for part in _KEPT_PARTS)
    )


def _more_bits(index: int, count: int) -> bool:
    """The first and last eighth of the layers, and every third between."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


class _Mixture:
    """One pass over a model's tensors in layer order; counts the attention values and down projections it meets."""

    def __init__(self, shape: ModelShape, tensors: Sequence[TensorInfo], file_type: str) -> None:
        self._shape = shape
        self._file_type = file_type
        self._default = DEFAULT_TYPES[file_type]
        self._values_met = 0
        self._values = sum(_category(tensor.name) == "attn_v" for tensor in tensors)
        self._downs_met = 0
        self._tied = all(tensor.name != "output.weight" for tensor in tensors)
        self._overrides = OVERRIDES.get(shape.architecture, ()) if file_type in _K4 else ()
        self._rules: dict[str, Callable[[TensorInfo], str]] = {
            "attn_v": self._attention_values,
            "attn_k": lambda _: "Q8_0" if shape.expert_count == 8 else self._default,
            "attn_output": self._attention_output,
            "ffn_down": self._down,
            "output": self._output,
        }

    def choose(self, tensor: TensorInfo) -> str:
        if not may_quantize(tensor):
            return tensor.type_name
        if self._default in FLOAT_TYPES:
            return self._default
        return _fall_back(tensor, self._override(tensor) or self._mixed(tensor))

    def _override(self, tensor: TensorInfo) -> str:
        return next((type_name for pattern, type_name in self._overrides if re.search(pattern, tensor.name)), "")

    def _mixed(self, tensor: TensorInfo) -> str:
        category = _category(tensor.name)
        if category == "token_embd" and self._tied:
            category = "output"
        rule = self._rules.get(category)
        return rule(tensor) if rule else self._default

    def _output(self, tensor: TensorInfo) -> str:
        if self._shape.architecture == "falcon" or tensor.shape[0] % _BLOCKS[self._default]:
            return "Q8_0"
        return "Q8_0" if self._default == "Q8_0" else "Q6_K"

    def _attention_values(self, _tensor: TensorInfo) -> str:
        index, self._values_met = self._values_met, self._values_met + 1
        chosen = self._more_for_values(index)
        if self._shape.is_70b and chosen in {"Q3_K", "Q4_K"}:
            chosen = "Q5_K"  # eight heads share them there: small tensors that matter much
        return "Q8_0" if self._shape.expert_count == 8 else chosen

    def _more_for_values(self, index: int) -> str:
        grouped = self._shape.heads_per_kv_head >= 4
        more = _more_bits(index, self._values)
        table = {
            "Q2_K": "Q4_K" if grouped else "Q3_K",
            "IQ3_S": "Q4_K" if grouped else self._default,
            "IQ3_M": "Q4_K",
            "Q3_K_M": "Q5_K" if index < 2 else "Q4_K",
            "Q3_K_L": "Q5_K",
            "IQ4_NL": "Q5_K" if grouped else self._default,
            "IQ4_XS": "Q5_K" if grouped else self._default,
            "Q4_K_M": "Q6_K" if more else self._default,
            "Q5_K_M": "Q6_K" if more else self._default,
            "Q4_K_S": "Q5_K" if index < 4 else self._default,
        }
        return table.get(self._file_type, self._default)

    def _attention_output(self, _tensor: TensorInfo) -> str:
        if self._shape.architecture == "falcon":
            return "Q4_K" if self._file_type == "Q3_K_L" else self._default
        if self._shape.expert_count == 8:
            low = {"Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS"}
            return "Q5_K" if self._file_type in low else self._default
        table = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
        return table.get(self._file_type, self._default)

    def _down(self, tensor: TensorInfo) -> str:
        index, self._downs_met = self._downs_met, self._downs_met + 1
        if self._shape.expert_count > 1:
            index = _layer(tensor.name)  # experts may be sprinkled over the layers: the name says where
        count = self._shape.block_count
        early, more = index < count // 8, _more_bits(index, count)
        if self._shape.architecture == "falcon":
            return self._down_of_falcon(index, count, more)
        table = {
            "Q2_K": "Q3_K",
            "Q3_K_M": "Q5_K" if index < count // 16 else "Q4_K",
            "Q3_K_L": "Q5_K",
            "IQ3_M": "Q4_K" if early or (self._shape.expert_count == 8 and more) else self._default,
            "Q4_K_M": "Q6_K" if more else self._default,
            "Q5_K_M": "Q6_K" if more else self._default,
            "Q4_K_S": "Q5_K" if early else self._default,
            "IQ4_NL": "Q5_K" if early else self._default,
            "IQ4_XS": "Q5_K" if early else self._default,
        }
        return table.get(self._file_type, self._default)

    def _down_of_falcon(self, index: int, count: int, more: bool) -> str:
        first = index < count // 16
        table = {
            "Q2_K": "Q3_K",
            "Q3_K_M": "Q5_K" if first else "Q4_K" if more else "Q3_K",
            "Q3_K_L": "Q4_K",
            "IQ3_M": "Q4_K" if index < count // 8 else self._default,
            "Q4_K_M": "Q6_K" if first else "Q5_K" if more else "Q4_K",
            "Q5_K_M": "Q6_K" if more else self._default,
            "IQ4_NL": "Q5_K" if index < count // 8 else self._default,
            "IQ4_XS": "Q5_K" if index < count // 8 else self._default,
        }
        return table.get(self._file_type, self._default)


def _category(name: str) -> str:
    if name == "output.weight":
        return "output"
    if name in _EMBEDDINGS:
        return "token_embd"
    return next((category for part, category in _CATEGORIES if part in name), "")


def _fall_back(tensor: TensorInfo, chosen: str) -> str:
    """A type whose block divides the tensor's rows: the chosen one, its smaller-block stand-in, or F16."""
    for candidate in (chosen, _FALLBACKS.get(chosen, chosen)):
        if tensor.shape[0] % _BLOCKS[candidate] == 0:
            return candidate
    return "F16"
