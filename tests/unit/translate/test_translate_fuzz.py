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
from tests.fakes.library import KitModel, kit, model_names

from corral.errors import InvalidGGUF, UntranslatableModel
from corral.gguf import read_header
from corral.gguf.encoding import encode_array, encode_preamble, encode_scalar, encode_tensors, encode_text, tensor_bytes
from corral.gguf.types import TENSOR_TYPES, ValueType
from corral.translate import Layout, Translation, recognize, write
from corral.translate.families import FAMILIES
from corral.translate.projectors import PROJECTORS

DATA_LIMIT = 8 << 20  # bytes of tensors that are really written
MEMORY_LIMIT = 64 << 20
ARCHITECTURES = sorted(FAMILIES.keys() | PROJECTORS.keys())
TYPES = [name for name, _, _ in TENSOR_TYPES.values()]
KEYS = [
    *("context_length", "block_count", "expert_count", "head_dim", "rope.dimension_sections", "rope.mrope_section"),
    *("attention.head_count_kv", "attention.key_length", "attention.kv_lora_rank", "rope.dimension_count"),
    *("rope.scaling.type", "rope.local.freq_base", "vision.block_count", "vision.deepstack_visual_indexes"),
    *("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"),
    *("vision.patch_size", "vision.image_size", "vision.attention.head_count", "vision.embedding_length"),
    *("vision.feed_forward_length", "vision.num_channels", "vision.spatial_merge_size", "vision.pixel_shuffle_ratio"),
    *(
        "vision.fullatt_block_indexes",
        "audio.block_count",
        "audio.embedding_length",
        "embedding_length",
        "has_vision_encoder",
    ),
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
    *("v.patch_embd.weight", "v.patch_embed.weight", "v.patch_embd_0.weight", "v.patch_conv.weight", "v.position_embd"),
    *("v.position_embd.weight", "v.pos_embed.weight", "v.class_embd", "v.blk.0.attn_q.weight", "v.blk.0.attn_k.weight"),
    *("v.blk.0.attn_v.weight", "v.blk.0.attn_q.bias", "v.blk.0.ffn_up.weight", "v.blk.0.mlp.linear_fc1.weight"),
    *("mm.0.weight", "mm.2.weight", "mm.input_projection.weight", "mm.linear_1.weight", "mm.patch_merger.weight"),
    *("mm.model.fc.weight", "a.conv1d.0.weight", "a.conv1d.1.weight", "a.blk.0.attn_q.weight", "s.position_embd"),
    *("v.deepstack_merger.0.norm.weight", "mm.view_seperator", "v.token_embd.img_break", "mm.a.fc.weight"),
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
tensors = st.dictionaries(st.sampled_from(TENSORS), st.tuples(shapes, st.sampled_from(TYPES)), max_size=12)
files = st.tuples(
    st.sampled_from(ARCHITECTURES), st.dictionaries(st.sampled_from(KEYS), st.one_of(scalars, arrays)), tensors
)


def build(path: Path, arch: str, keys: dict[str, bytes], listed: dict[str, tuple[list[int], str]]) -> None:
    """A file of this architecture; `keys` stand below it."""
    values = {"general.architecture": encode_scalar(ValueType.STRING, arch)}
    values |= {key if "." in key and key.startswith(("tok", "gen")) else f"{arch}.{key}": v for key, v in keys.items()}
    write_sparse(path, values, listed)


def write_sparse(path: Path, values: dict[str, bytes], listed: dict[str, tuple[list[int], str]]) -> None:
    """A file with these keys and tensors; it is as long as they say, mostly a hole."""
    head = encode_preamble(len(listed), len(values))
    head += b"".join(encode_text(key) + value for key, value in values.items())
    head += encode_tensors([(name, shape, kind) for name, (shape, kind) in listed.items()], 32)
    sizes = [tensor_bytes(shape, kind) for shape, kind in listed.values()]
    with path.open("wb") as file:
        file.write(head)
        file.truncate(min(2**42, -(-len(head) // 32) * 32 + sum(size + -size % 32 for size in sizes)))


def try_to_translate(path: Path) -> None:
    """Plan text and projector and, where they are small, write them: whole files or one of the two errors."""
    try:
        layout = recognize(read_header(path))
    except (InvalidGGUF, UntranslatableModel):
        return
    if layout is None:
        return
    for make in (Layout.text_plan, Layout.projector_plan):
        try:
            plan = make(layout)
            if plan is not None and plan.size_bytes <= DATA_LIMIT:
                check_written(path, plan)
        except (InvalidGGUF, UntranslatableModel):
            continue


def check_written(path: Path, plan: Translation) -> None:
    target = io.BytesIO()
    write(path, plan, target)
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


@pytest.mark.parametrize("arch", ARCHITECTURES)
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


@pytest.mark.parametrize("name", model_names(kit()))
def test_a_library_file_with_a_lie_in_it_is_a_file_or_an_error(tmp_path: Path, name: str) -> None:
    weights = KitModel(kit(), name).weights
    header, raw = read_header(weights), weights.read_bytes()
    values = {key: raw[start:end] for key, (start, end) in header.spans.items() if end - start < 4096}
    listed = {tensor.name: (list(tensor.shape), tensor.type_name) for tensor in header.tensors}
    chance = random.Random(name)
    for _ in range(16):
        keys, tensors = dict(values), dict(listed)
        for _ in range(chance.randrange(1, 4)):
            lie(chance, keys, tensors)
        write_sparse(tmp_path / "m.gguf", keys, tensors)
        try_to_translate(tmp_path / "m.gguf")


def lie(chance: random.Random, keys: dict[str, bytes], listed: dict[str, tuple[list[int], str]]) -> None:
    """Change a key's value or type, or a tensor's shape or type, or leave one of them out."""
    key, tensor = chance.choice(sorted(keys)), chance.choice(sorted(listed))
    shape, _ = listed[tensor]
    what = chance.randrange(6)
    if what == 0 and key != "general.architecture":
        keys[key] = chance.choice([encode_scalar(ValueType.UINT32, 0), encode_scalar(ValueType.STRING, "x")])
    elif what == 1 and key != "general.architecture":
        keys[key] = encode_array(ValueType.INT32, [chance.choice([-1, 0, 1, 2**31 - 1]) for _ in range(3)])
    elif what == 2 and key != "general.architecture":
        del keys[key]
    elif what == 3:
        del listed[tensor]
    elif what == 4:
        listed[tensor] = (shape, chance.choice(["I8", "F32", "F16"]))
    elif shape:
        listed[tensor] = ([chance.choice([0, 1, 32, 64, extent + 32, 2 * extent]) for extent in shape], "F16")
