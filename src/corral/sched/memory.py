"""Bytes that a runner needs: weights, KV cache, compute buffers, per device. Pure arithmetic over GGUF header facts.

Called by `plan.py` (before a load) and `policy.py` (does it fit, with fewer slots or a smaller window?). What the host
has is read by `hostmemory.py`; after a load the measured figures of the runner replace the estimate.

| part     | bytes                                                                                             |
|----------|---------------------------------------------------------------------------------------------------|
| weights  | file size of the tensors; mapped (droppable page cache) with use_mmap, else anonymous               |
| repacked | tensors that the CPU backend copies into its own layout; anonymous even with use_mmap               |
| KV cache | sum over layers: kv heads x (key length + value length) x bytes of the type x tokens held           |
| tokens   | full attention: context x slots; sliding window: min(that, window x slots + batch)                  |
| compute  | batch x (logits + activations) + attention scores (not with flash attention)                        |
| rollback | states to go back to, where tokens cannot be taken out of the cache: LEAST_CHECKPOINTS a slot       |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from corral.sched.weightlayouts import COPIED_WITH_TILES, REPACKED_TYPES, TILED_TYPES

MIB = 2**20
LEAST_CHECKPOINTS = 3  # states of a slot that the engine can go back to; with fewer, changed histories are read anew
RUNNER_OVERHEAD_BYTES = 96 * MIB  # interpreter, engine code, HTTP server, vocabulary; measured 60-110 MiB

# Bytes per element of a KV cache type: block quants store 32 elements with a scale.
KV_TYPE_BYTES: Mapping[str, float] = {
    "": 2.0,
    "f16": 2.0,
    "bf16": 2.0,
    "f32": 4.0,
    "q8_0": 34 / 32,
    "q4_0": 18 / 32,
    "q4_1": 20 / 32,
    "q5_0": 22 / 32,
    "q5_1": 24 / 32,
    "iq4_nl": 18 / 32,
}
# Every n-th layer attends to everything, the others to a sliding window (llama.cpp set_swa_pattern, 2026-08).
_SLIDING_PATTERN: Mapping[str, int] = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "cohere2": 4,
    "exaone4": 4,
    "olmo2": 4,
}
_NO_CACHE = frozenset(
    {"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert", "t5encoder"}
)
_BATCH_ACTIVATIONS = 12  # float rows of n_embd alive at once in a layer's graph, from reserve sizes of llama and gemma


class Header(Protocol):
    """What is read of a GGUF header; `gguf.reader.GGUFHeader` is one."""

    @property
    def architecture(self) -> str:
        """`general.architecture`."""
        ...

    @property
    def parameter_count(self) -> int:
        """Elements of all tensors."""
        ...

    @property
    def tensors(self) -> Sequence[Any]:
        """Entries with `type_name` and `size_bytes`."""
        ...

    def get(self, key: str, default: Any = None) -> Any:
        """A metadata value; keys without a known prefix are the architecture's own."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The header's numbers that memory depends on; 0 = the header does not say. kv_heads has an entry per layer."""

    architecture: str = "unknown"
    block_count: int = 0
    kv_heads: tuple[int, ...] = ()
    heads: int = 0
    key_length: int = 0
    value_length: int = 0
    embedding_length: int = 0
    feed_forward_length: int = 0
    vocabulary: int = 0
    context_length: int = 0
    sliding_window: int = 0
    sliding_layers: int = 0
    recurrent_bytes: int = 0  # state of one sequence in layers without a KV cache
    parameters: int = 0
    weights_bytes: int = 0
    repacked_bytes: int = 0
    tiled_bytes: int = 0  # as repacked_bytes, where the kernels have AMX; in the file
    tile_growth_bytes: int = 0  # what they take there beyond that
    projector_bytes: int = 0
    adapter_bytes: int = 0
    draft_bytes: int = 0

    @classmethod
    def from_header(
        cls, header: Header, *, projector_bytes: int = 0, adapter_bytes: int = 0, draft_bytes: int = 0
    ) -> ModelFacts:
        """Read the facts; absurd or missing values count as 0, so a strange header only makes the estimate small."""
        blocks = _count(header, "block_count", 4096)
        heads = max(_per_layer(header, "attention.head_count", blocks), default=0)
        embedding = _count(header, "embedding_length")
        per_head = embedding // heads if heads else 0
        window = _count(header, "attention.sliding_window")
        tensors = header.tensors
        return cls(
            architecture=header.architecture,
            block_count=blocks,
            kv_heads=_kv_heads(header, blocks, heads),
            heads=heads,
            key_length=_count(header, "attention.key_length") or per_head,
            value_length=_count(header, "attention.value_length") or per_head,
            embedding_length=embedding,
            feed_forward_length=max(_per_layer(header, "feed_forward_length", blocks), default=0),
            vocabulary=_vocabulary(header),
            context_length=_count(header, "context_length"),
            sliding_window=window,
            sliding_layers=_sliding_layers(header, blocks) if window else 0,
            recurrent_bytes=_recurrent_bytes(header, blocks),
            weights_bytes=sum(tensor.size_bytes for tensor in tensors),
            parameters=header.parameter_count,
            repacked_bytes=sum(tensor.size_bytes for tensor in tensors if tensor.type_name in REPACKED_TYPES),
            tiled_bytes=sum(t.size_bytes for t in tensors if t.type_name in COPIED_WITH_TILES),
            tile_growth_bytes=sum(int(t.size_bytes * (TILED_TYPES.get(t.type_name, 1.0) - 1)) for t in tensors),
            projector_bytes=projector_bytes,
            adapter_bytes=adapter_bytes,
            draft_bytes=draft_bytes,
        )


def _count(header: Header, key: str, most: int = 2**31) -> int:
    value = header.get(key, 0)
    return int(value) if isinstance(value, int | float) and 0 < value <= most else 0


def _per_layer(header: Header, key: str, blocks: int) -> tuple[int, ...]:
    value = header.get(key)
    if value is None or isinstance(value, str):
        return ()
    if isinstance(value, int | float):
        return (int(value),) * blocks
    values = value.read(blocks) if hasattr(value, "read") else list(value)
    return tuple(int(item) for item in values[:blocks] if isinstance(item, int | float))


def _kv_heads(header: Header, blocks: int, heads: int) -> tuple[int, ...]:
    """None for layers without attention: all but every n-th of the text's, where a hybrid model says so."""
    counts = _per_layer(header, "attention.head_count_kv", blocks) or (heads,) * blocks
    every, text = _count(header, "full_attention_interval"), blocks - _count(header, "nextn_predict_layers", blocks)
    if not every:
        return counts
    return tuple(0 if layer < text and (layer + 1) % every else count for layer, count in enumerate(counts))


def _vocabulary(header: Header) -> int:
    tokens = header.get("tokenizer.ggml.tokens")
    length = getattr(tokens, "length", None)
    return length if isinstance(length, int) else _count(header, "vocab_size")


def _sliding_layers(header: Header, blocks: int) -> int:
    pattern = header.get("attention.sliding_window_pattern")
    if hasattr(pattern, "read"):
        return sum(1 for item in pattern.read(blocks) if item)
    every = int(pattern) if isinstance(pattern, int) and pattern > 0 else _SLIDING_PATTERN.get(header.architecture, 0)
    return blocks - blocks // every if every else 0


def _recurrent_bytes(header: Header, blocks: int) -> int:
    """Of one sequence: convolution and state of all layers that recur, 32-bit. Source: llama.cpp llama-hparams.cpp."""
    inner, state = _count(header, "ssm.inner_size", 2**20), _count(header, "ssm.state_size", 2**20)
    short = max(0, _count(header, "shortconv.l_cache", 4096) - 1) * _count(header, "embedding_length", 2**20)
    if not (inner and state) and not short:
        return 0
    every = _count(header, "full_attention_interval", 4096)
    attends = sum(1 for heads in _per_layer(header, "attention.head_count_kv", blocks) if heads)
    layers = blocks - blocks // every if every else blocks - (attends if attends < blocks else 0)
    taps = max(0, _count(header, "ssm.conv_kernel", 4096) - 1)
    groups = _count(header, "ssm.group_count", 4096)
    return 4 * layers * (taps * (inner + 2 * groups * state) + state * inner + short)


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of one runner at `context_window` tokens per slot and `slots` slots; `at` asks for other values.

    gpu_share: part of weights, KV cache and compute buffers that lies in device memory, 0.0 to 1.0.
    """

    weights_bytes: int = 0  # anonymous: read or repacked copies
    mapped_bytes: int = 0  # file-backed: droppable page cache
    projector_bytes: int = 0
    adapter_bytes: int = 0
    kv_bytes_per_token: int = 0  # layers with full attention
    window_bytes_per_token: int = 0  # layers with a sliding window
    sliding_window: int = 0  # tokens
    recurrent_bytes: int = 0  # of a slot
    compute_bytes_per_token: int = 0  # of the batch
    scores_bytes_per_token: int = 0  # of the context, for the whole batch
    n_batch: int = 512
    context_window: int = 4096
    slots: int = 1
    gpu_share: float = 0.0
    layers: int = 1  # of the model, the output layer too; unknown = one that cannot be divided

    @property
    def total_tokens(self) -> int:
        """Tokens of all slots together."""
        return self.context_window * self.slots

    @property
    def kv_cache_bytes(self) -> int:
        """Keys and values of all slots."""
        window = min(self.total_tokens, self.sliding_window * self.slots + self.n_batch)
        return self.kv_bytes_per_token * self.total_tokens + self.window_bytes_per_token * window

    @property
    def compute_bytes(self) -> int:
        """The engine's scratch buffers."""
        return self.compute_bytes_per_token * self.n_batch + self.scores_bytes_per_token * self.total_tokens

    @property
    def checkpoint_bytes(self) -> int:
        """One state of a slot to go back to: what of its cache cannot be cut at a token."""
        window = min(self.context_window, self.sliding_window + self.n_batch) if self.sliding_window else 0
        return self.window_bytes_per_token * window + self.recurrent_bytes

    @property
    def rollback_bytes(self) -> int:
        """The least that is kept to go back to, and the states themselves where layers recur; always on the host."""
        return self.slots * (LEAST_CHECKPOINTS * self.checkpoint_bytes + self.recurrent_bytes)

    @property
    def needed_bytes(self) -> int:
        """What must be free before the load, host and devices together: all but the droppable mapped weights."""
        parts = self.weights_bytes + self.projector_bytes + self.adapter_bytes + self.kv_cache_bytes
        return parts + self.compute_bytes + self.rollback_bytes + RUNNER_OVERHEAD_BYTES

    @property
    def total_bytes(self) -> int:
        """Everything, mapped weights too."""
        return self.needed_bytes + self.mapped_bytes

    @property
    def device_bytes(self) -> int:
        """The part that lies in device memory."""
        return int((self.total_bytes - self.rollback_bytes - RUNNER_OVERHEAD_BYTES) * self.gpu_share)

    @property
    def host_bytes(self) -> int:
        """The part of needed_bytes that lies in host memory."""
        return max(RUNNER_OVERHEAD_BYTES, self.needed_bytes - self.device_bytes)

    @property
    def device_layers(self) -> int:
        """How many of the layers the devices' part of the memory is for."""
        return int(self.gpu_share * self.layers + 1e-6)  # thirds and the like are not exact

    def spilled(self, device_bytes: int, *, slots: int) -> MemoryEstimate:
        """With as many layers on the devices as fit there with this many slots; the others on the host."""
        whole = replace(self, gpu_share=1.0, slots=slots).device_bytes
        share = min(self.gpu_share, max(0, device_bytes) * _DEVICE_USE / whole) if whole else 0.0
        fewer = replace(self, gpu_share=share)
        return replace(fewer, gpu_share=fewer.device_layers / self.layers)

    def at(self, *, context_window: int | None = None, slots: int | None = None) -> MemoryEstimate:
        """The same model with another window or number of slots."""
        return replace(
            self,
            context_window=self.context_window if context_window is None else context_window,
            slots=self.slots if slots is None else slots,
        )


def estimate(
    facts: ModelFacts,
    *,
    context_window: int,
    slots: int,
    n_batch: int,
    kv_cache_type: str = "",
    use_mmap: bool = False,
    flash_attention: bool = False,
    gpu_share: float = 0.0,
    tiles: bool = False,
) -> MemoryEstimate:
    """What a runner of these settings will need. An estimate from above; unknown header values count as nothing.

    tiles: whether the CPU's kernels lay weights out for AMX.
    """
    per_element = KV_TYPE_BYTES.get(kv_cache_type, 2.0)
    width = facts.key_length + facts.value_length
    heads = () if facts.architecture in _NO_CACHE else facts.kv_heads
    all_layers = int(sum(heads) * width * per_element)
    sliding = all_layers * facts.sliding_layers // facts.block_count if facts.block_count else 0
    read = _read_bytes(facts, use_mmap=use_mmap, on_cpu=gpu_share == 0, tiles=tiles)
    growth = int(facts.tile_growth_bytes * (1 - gpu_share)) if tiles and read else 0
    rows = _BATCH_ACTIVATIONS * facts.embedding_length + 3 * facts.feed_forward_length
    return MemoryEstimate(
        weights_bytes=read + growth + facts.draft_bytes,
        mapped_bytes=facts.weights_bytes - read,
        projector_bytes=facts.projector_bytes * 3 // 2,  # weights plus the image encoder's graph
        adapter_bytes=facts.adapter_bytes,
        kv_bytes_per_token=all_layers - sliding,
        window_bytes_per_token=sliding,
        sliding_window=facts.sliding_window,
        recurrent_bytes=facts.recurrent_bytes,
        compute_bytes_per_token=4 * (facts.vocabulary + rows),
        scores_bytes_per_token=0 if flash_attention else 4 * n_batch * facts.heads,
        n_batch=n_batch,
        context_window=context_window,
        slots=slots,
        gpu_share=gpu_share,
        layers=facts.block_count + 1,
    )


def _read_bytes(facts: ModelFacts, *, use_mmap: bool, on_cpu: bool, tiles: bool) -> int:
    """Of the file: the weights that are read into memory, others stay mapped."""
    if not use_mmap:
        return facts.weights_bytes
    if not on_cpu:
        return 0
    return facts.tiled_bytes if tiles else facts.repacked_bytes


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    """One GPU's memory, in bytes; both already lack the configured overhead."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class HostFigures:
    """What the host has, as far as this process may use it (cgroup limits included).

    tiles: whether its kernels lay weights out for AMX.
    """

    total_bytes: int
    available_bytes: int
    devices: tuple[DeviceFigures, ...] = ()
    cores: int = 1
    tiles: bool = False

    @property
    def device_total_bytes(self) -> int:
        """Memory of all devices."""
        return sum(device.total_bytes for device in self.devices)

    @property
    def device_free_bytes(self) -> int:
        """Free memory of all devices."""
        return sum(device.free_bytes for device in self.devices)


SLOT_CHOICES = (4, 2, 1)
_DEVICE_USE = 0.9  # of the free memory of the devices may be planned for: a driver's context takes some hundred MiB
SMALL_WINDOWS = (32768, 4096)  # what an automatic window is lowered to (spec native-api 7.6)


@dataclass(frozen=True, slots=True)
class Room:
    """Free bytes for one more runner; None = unlimited (no figures)."""

    host_bytes: int | None = None
    device_bytes: int | None = None

    def holds(self, need: MemoryEstimate) -> bool:
        """Whether a runner of this size fits."""
        host = self.host_bytes is None or need.host_bytes <= self.host_bytes
        return host and (self.device_bytes is None or need.device_bytes <= self.device_bytes)


def shrink(need: MemoryEstimate, room: Room, *, slots: bool, window: bool) -> MemoryEstimate | None:
    """The largest form of a load that fits: fewer slots first, then a smaller window; None when none does."""
    windows = [need.context_window]
    if window:
        windows += [small for small in SMALL_WINDOWS if small < need.context_window]
    counts = [need.slots]
    if slots:
        counts += [count for count in SLOT_CHOICES if count < need.slots]
    for context_window in windows:
        for count in counts:
            form = need.at(context_window=context_window, slots=count)
            if room.holds(form):
                return form
    return None


def advise(need: MemoryEstimate, free_bytes: int) -> str:
    """What would make a model fit that does not: a sentence for the user."""
    fixed = need.at(context_window=0, slots=1)
    if fixed.needed_bytes >= free_bytes:
        hint = "" if need.mapped_bytes else " or use_mmap true, which reads weights from disk as needed"
        return f"its weights alone do not fit: use a smaller quantization{hint}"
    per_token = max(1, (need.at(slots=1).needed_bytes - fixed.needed_bytes) // max(1, need.context_window))
    window = (free_bytes - fixed.needed_bytes) // per_token // 256 * 256
    ideas = []
    if window >= 256:
        ideas.append(f"a num_ctx of {min(window, need.context_window)} with one slot would fit")
    if need.slots > 1:
        ideas.append("use fewer parallel slots (OLLAMA_NUM_PARALLEL=1)")
    ideas.append("use a smaller KV cache type (OLLAMA_KV_CACHE_TYPE=q8_0)")
    return "; ".join(ideas)
