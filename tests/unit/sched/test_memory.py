"""Bytes of a runner: weights, KV cache, sliding windows, what is lowered to fit, and the advice when nothing does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from corral.sched.memory import (
    RUNNER_OVERHEAD_BYTES,
    DeviceFigures,
    HostFigures,
    MemoryEstimate,
    ModelFacts,
    Room,
    advise,
    estimate,
    shrink,
)

MIB = 2**20


@dataclass
class Tensor:
    type_name: str
    size_bytes: int


@dataclass
class Array:
    values: list[Any]

    @property
    def length(self) -> int:
        return len(self.values)

    def read(self, most: int) -> list[Any]:
        return self.values[:most]


@dataclass
class FakeHeader:
    architecture: str = "llama"
    values: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = (Tensor("Q4_K", 60), Tensor("F32", 40))
    parameter_count: int = 0

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)


LLAMA = {
    "block_count": 32,
    "attention.head_count": 32,
    "attention.head_count_kv": 8,
    "embedding_length": 4096,
    "feed_forward_length": 14336,
    "context_length": 131072,
    "tokenizer.ggml.tokens": Array(["x"] * 128),
}


def facts(**changes: Any) -> ModelFacts:
    return ModelFacts.from_header(FakeHeader(values=LLAMA | changes))


def sized(model: ModelFacts, **wish: Any) -> MemoryEstimate:
    settings: dict[str, Any] = {"context_window": 8192, "slots": 1, "n_batch": 32} | wish
    return estimate(model, **settings)


def test_kv_cache_of_grouped_query_attention() -> None:
    # llama 3 8B: 2 (K, V) x 32 layers x 8 heads x 128 x 2 bytes = 128 KiB a token
    assert sized(facts()).kv_cache_bytes == 8192 * 128 * 1024
    assert sized(facts(), slots=4).kv_cache_bytes == 4 * 8192 * 128 * 1024


def test_quantized_kv_cache_counts_its_scales() -> None:
    assert sized(facts(), kv_cache_type="q8_0").kv_cache_bytes == pytest.approx(8192 * 128 * 1024 * 34 / 64)


def test_per_layer_head_counts_are_summed_and_layers_without_a_cache_count_nothing() -> None:
    model = facts(**{"block_count": 4, "attention.head_count_kv": Array([8, 0, 0, 8])})
    assert sized(model).kv_bytes_per_token == 2 * 8 * 256 * 2


def test_a_hybrid_model_has_a_cache_in_every_nth_layer_and_in_those_that_draft() -> None:
    values = {**LLAMA, "block_count": 9, "full_attention_interval": 4, "nextn_predict_layers": 1}
    assert ModelFacts.from_header(FakeHeader(values=values)).kv_heads == (0, 0, 0, 8, 0, 0, 0, 8, 8)


def test_explicit_key_and_value_lengths_win_over_the_division() -> None:
    model = facts(**{"attention.key_length": 256, "attention.value_length": 64})
    assert sized(model).kv_bytes_per_token == 32 * 8 * (256 + 64) * 2


def test_sliding_layers_hold_their_window_only() -> None:
    header = FakeHeader("gemma3", LLAMA | {"block_count": 18, "attention.sliding_window": 512})
    model = ModelFacts.from_header(header)
    assert model.sliding_layers == 15  # every sixth layer attends to everything
    small, large = sized(model, context_window=4096), sized(model, context_window=131072)
    window_bytes = large.window_bytes_per_token * (512 + 32)
    assert large.kv_cache_bytes - small.kv_cache_bytes == large.kv_bytes_per_token * (131072 - 4096)
    assert large.kv_cache_bytes == large.kv_bytes_per_token * 131072 + window_bytes


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 16}, 4 * (3 * 64 + 64 * 16)),
        (
            {"ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 16, "ssm.group_count": 2},
            4 * (3 * (64 + 2 * 2 * 16) + 64 * 16),
        ),
        ({"shortconv.l_cache": 3}, 4 * 4096 * 2),
        ({}, 0),
    ],
)
def test_what_recurrent_layers_remember(values: dict[str, Any], state: int) -> None:
    found = facts(**{"block_count": 2, "attention.head_count_kv": Array([0, 8]), **values})
    assert found.recurrent_bytes == state
    assert sized(found).checkpoint_bytes == state


def test_a_pattern_in_the_header_wins_over_the_architectures() -> None:
    values = LLAMA | {"attention.sliding_window": 512, "attention.sliding_window_pattern": Array([True] * 31 + [False])}
    assert ModelFacts.from_header(FakeHeader("gemma3", values)).sliding_layers == 31


def test_an_encoder_has_no_cache() -> None:
    assert sized(ModelFacts.from_header(FakeHeader("bert", LLAMA))).kv_cache_bytes == 0


def test_mapped_weights_need_no_free_memory_but_repacked_copies_do() -> None:
    mapped, read = sized(facts(), use_mmap=True), sized(facts())
    assert (mapped.weights_bytes, mapped.mapped_bytes) == (60, 40)
    assert (read.weights_bytes, read.mapped_bytes) == (100, 0)
    assert read.total_bytes == mapped.total_bytes
    assert read.needed_bytes - mapped.needed_bytes == 40


def test_kernels_with_tiles_copy_more_and_take_more() -> None:
    header = FakeHeader(
        "llama", LLAMA, (Tensor("Q8_0", 340), Tensor("Q6_K", 100), Tensor("Q2_K", 50), Tensor("F32", 10))
    )
    model = ModelFacts.from_header(header)
    read, mapped = sized(model, tiles=True), sized(model, tiles=True, use_mmap=True)
    assert (read.weights_bytes, read.mapped_bytes) == (500 + 40, 0)
    assert (mapped.weights_bytes, mapped.mapped_bytes) == (490 + 40, 10)
    assert sized(model, use_mmap=True).weights_bytes == 50
    on_device = sized(model, tiles=True, gpu_share=1.0)
    assert on_device.weights_bytes == 500


@pytest.mark.parametrize("junk", [{}, {"block_count": 10**12}, {"embedding_length": "many"}, {"block_count": -1}])
def test_a_strange_header_gives_a_small_estimate_and_no_error(junk: dict[str, Any]) -> None:
    estimated = sized(ModelFacts.from_header(FakeHeader(values=junk)))
    assert estimated.kv_cache_bytes == 0
    assert estimated.weights_bytes == 100


def test_projectors_adapters_and_drafts_are_counted() -> None:
    with_all = ModelFacts.from_header(FakeHeader(), projector_bytes=1000, adapter_bytes=10, draft_bytes=1)
    without = ModelFacts.from_header(FakeHeader())
    assert sized(with_all).needed_bytes - sized(without).needed_bytes == 1511


def test_a_fully_offloaded_model_needs_only_the_overhead_of_the_host() -> None:
    on_device = sized(facts(), gpu_share=1.0)
    assert on_device.host_bytes == RUNNER_OVERHEAD_BYTES
    assert on_device.device_bytes == on_device.total_bytes - RUNNER_OVERHEAD_BYTES
    assert sized(facts()).device_bytes == 0


def test_room_is_asked_on_both_sides() -> None:
    half = sized(facts(), gpu_share=0.5)
    assert Room(half.host_bytes, half.device_bytes).holds(half)
    assert not Room(half.host_bytes - 1, half.device_bytes).holds(half)
    assert not Room(half.host_bytes, half.device_bytes - 1).holds(half)
    assert Room().holds(half)


def test_shrink_takes_slots_before_the_window_and_only_what_it_may() -> None:
    need = MemoryEstimate(kv_bytes_per_token=MIB, context_window=8192, slots=4)
    base = RUNNER_OVERHEAD_BYTES
    gib = 1024 * MIB
    assert shrink(need, Room(base + 32 * gib), slots=True, window=True) == need
    assert shrink(need, Room(base + 17 * gib), slots=True, window=True) == need.at(slots=2)
    assert shrink(need, Room(base + 5 * gib), slots=True, window=True) == need.at(slots=1, context_window=4096)
    assert shrink(need, Room(base + 5 * gib), slots=True, window=False) is None
    assert shrink(need, Room(base + 17 * gib), slots=False, window=False) is None


def test_advice_names_a_window_that_would_really_fit() -> None:
    need = MemoryEstimate(weights_bytes=100 * MIB, kv_bytes_per_token=MIB // 16, context_window=131072, slots=4)
    free = RUNNER_OVERHEAD_BYTES + 700 * MIB
    text = advise(need, free)
    window = int(text.split("num_ctx of ")[1].split()[0])
    assert need.at(context_window=window, slots=1).needed_bytes <= free
    assert need.at(context_window=window + 512, slots=1).needed_bytes > free
    assert "fewer parallel slots" in text
    assert "KV cache type" in text


def test_advice_for_weights_that_do_not_fit_is_another_model() -> None:
    need = MemoryEstimate(weights_bytes=100 * 2**30)
    assert "smaller quantization" in advise(need, 2**30)
    assert "use_mmap" in advise(need, 2**30)
    assert "use_mmap" not in advise(replace(need, mapped_bytes=1), 2**30)


def test_device_figures_add_up() -> None:
    host = HostFigures(1, 1, (DeviceFigures(10, 4), DeviceFigures(20, 5)))
    assert (host.device_total_bytes, host.device_free_bytes) == (30, 9)
    assert HostFigures(1, 1).device_total_bytes == 0


def test_layers_that_do_not_fit_on_the_devices_stay_on_the_host() -> None:
    whole = replace(sized(facts(), gpu_share=1.0), slots=1)
    layers = whole.layers
    assert whole.spilled(2 * whole.device_bytes, slots=1) == whole
    half = whole.spilled(whole.device_bytes // 2, slots=1)
    assert 0 < half.device_layers < layers / 2  # the driver needs some, too
    assert half.gpu_share == pytest.approx(half.device_layers / layers)
    assert half.device_bytes <= whole.device_bytes // 2
    assert half.spilled(10 * whole.device_bytes, slots=1) == half  # never more than was planned
    assert whole.spilled(0, slots=1).device_layers == whole.spilled(-5, slots=1).device_layers == 0


def test_a_model_of_unknown_layers_is_on_the_devices_or_not() -> None:
    unknown = replace(MemoryEstimate(weights_bytes=1000), gpu_share=1.0)
    assert unknown.spilled(10 * unknown.device_bytes, slots=1).gpu_share == 1.0
    assert unknown.spilled(unknown.device_bytes // 2, slots=1).gpu_share == 0.0
