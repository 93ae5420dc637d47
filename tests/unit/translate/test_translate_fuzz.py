"""Whatever a header says, translating it is a file of the promised size or a typed error, in bounded memory."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from corral.errors import InvalidGGUF, UntranslatableModel
from corral.gguf import read_header
from corral.gguf.encoding import encode_array, encode_preamble, encode_scalar, encode_tensors, encode_text, tensor_bytes
from corral.gguf.types import TENSOR_TYPES, ValueType
from corral.translate import recognize, write
from corral.translate.families import FAMILIES

DATA_LIMIT = 1 << 20  # bytes of tensors that are really written
MEMORY_LIMIT = 64 << 20
TYPES = [name for name, _, _ in TENSOR_TYPES.values()]
KEYS = [
    *("context_length", "block_count", "expert_count", "head_dim", "rope.dimension_sections", "rope.mrope_section"),
    *("attention.head_count_kv", "attention.key_length", "attention.kv_lora_rank", "rope.dimension_count"),
    *("rope.scaling.type", "rope.local.freq_base", "vision.block_count", "vision.deepstack_visual_indexes"),
    *("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"),
    *("tokenizer.ggml.precompiled_charsmap", "tokenizer.ggml.eos_token_ids", "general.alignment"),
]
TENSORS = [
    *("token_embd.weight", "per_layer_token_embd.weight", "dense.0.weight", "dense.1.weight", "norm.weight"),
    *(
        "output_norm.weight",
        "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight",
        "blk.0.attn_out.weight",
        "v.x",
        "mtp.fc.weight",
    ),
    *("blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight", "blk.0.ssm_dt"),
    *("blk.0.ffn_down_shexp.weight", "blk.0.ffn_latent_in.weight", "blk.0.attn_sinks", "mtp.layers.0.attn_norm.weight"),
    *("mtp.layers.0.mlp.experts.0.gate_proj.weight", "mtp.layers.0.mlp.experts.1.gate_proj.weight", "mtp.norm.weight"),
    *(
        "blk.999999999.x.weight",
        "blk.0.attn_qkv.weight",
        "blk.0.ffn_gate_up_exps.weight",
        "blk.0.ffn_gate_up_exps.bias",
    ),
]

texts = st.sampled_from(["", "llama", "gpt2", "t5", "default", "<0x41>", "A", "é"])
integers = st.sampled_from([0, 1, 3, 64, 2**31 - 1])
scalars = st.one_of(
    texts.map(lambda text: encode_scalar(ValueType.STRING, text)),
    integers.map(lambda value: encode_scalar(ValueType.UINT32, value)),
    st.just(encode_scalar(ValueType.FLOAT32, 1e-6)),
    st.just(encode_scalar(ValueType.BOOL, True)),
)
arrays = st.one_of(
    st.lists(texts, max_size=6).map(lambda values: encode_array(ValueType.STRING, values)),
    st.lists(integers, max_size=6).map(lambda values: encode_array(ValueType.INT32, values)),
    st.lists(st.just(0.5), max_size=3).map(lambda values: encode_array(ValueType.FLOAT32, values)),
)
extents = st.sampled_from([0, 1, 2, 3, 32, 64, 256, 2**20, 2**40])
shapes = st.lists(extents, max_size=4)
tensors = st.dictionaries(st.sampled_from(TENSORS), st.tuples(shapes, st.sampled_from(TYPES)), max_size=8)
files = st.tuples(
    st.sampled_from(sorted(FAMILIES)), st.dictionaries(st.sampled_from(KEYS), st.one_of(scalars, arrays)), tensors
)


def build(path: Path, arch: str, keys: dict[str, bytes], listed: dict[str, tuple[list[int], str]]) -> None:
    """A file with these keys and tensors; it is as long as they say, mostly a hole."""
    values = {"general.architecture": encode_scalar(ValueType.STRING, arch)}
    values |= {key if "." in key and key.startswith(("tok", "gen")) else f"{arch}.{key}": v for key, v in keys.items()}
    head = encode_preamble(len(listed), len(values))
    head += b"".join(encode_text(key) + value for key, value in values.items())
    head += encode_tensors([(name, shape, kind) for name, (shape, kind) in listed.items()], 32)
    sizes = [tensor_bytes(shape, kind) for shape, kind in listed.values()]
    with path.open("wb") as file:
        file.write(head)
        file.truncate(min(2**42, -(-len(head) // 32) * 32 + sum(size + -size % 32 for size in sizes)))


def try_to_translate(path: Path) -> None:
    """Plan and, where it is small, write: a whole file or one of the two errors."""
    try:
        layout = recognize(read_header(path))
        plan = layout.text_plan() if layout is not None else None
        if plan is None or plan.size_bytes > DATA_LIMIT:
            return
        target = io.BytesIO()
        write(path, plan, target)
    except (InvalidGGUF, UntranslatableModel):
        return
    assert len(target.getvalue()) == plan.size_bytes
    path.with_suffix(".out").write_bytes(target.getvalue())
    assert read_header(path.with_suffix(".out")).architecture == plan.architecture


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files)
def test_any_keys_and_shapes_are_a_file_or_an_error(
    tmp_path: Path, made: tuple[str, dict[str, bytes], dict[str, tuple[list[int], str]]]
) -> None:
    path = tmp_path / "m.gguf"
    assume(sum(tensor_bytes(*one) for one in made[2].values()) < 2**60)
    build(path, *made)
    tracemalloc.start()
    try_to_translate(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY_LIMIT


@pytest.mark.parametrize("arch", sorted(FAMILIES))
def test_flipped_and_missing_bytes_are_a_file_or_an_error(tmp_path: Path, arch: str) -> None:
    chance = random.Random(arch)
    path = tmp_path / "m.gguf"
    keys = {"rope.dimension_sections": encode_array(ValueType.INT32, [1, 2, 3])}
    keys |= {"attention.key_length": encode_scalar(ValueType.UINT32, 4), "block_count": struct.pack("<II", 4, 2)}
    keys |= {"tokenizer.ggml.tokens": encode_array(ValueType.STRING, ["a", "b"])}
    listed = {name: ([32, 2], "F32") for name in chance.sample(TENSORS, 10)}
    build(path, arch, keys, listed)
    whole = path.read_bytes()
    for _ in range(60):
        raw = bytearray(whole[: chance.randrange(len(whole)) if chance.random() < 0.3 else len(whole)])
        for _ in range(chance.randrange(1, 5)):
            if raw:
                raw[chance.randrange(min(len(raw), 1200))] = chance.randrange(256)
        path.write_bytes(raw)
        try_to_translate(path)
