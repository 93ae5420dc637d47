"""From a model and its options to a load: spec, which of its fields are ours to choose, memory, notices. Pure.

Called by inference/ for every request; the scheduler compares the spec with what is loaded (reload.py) and may lower
automatic fields to make it fit. Source of the rules: ollama server/sched.go, llm/llama_server.go, 2026-08 (spec
native-api 3.2, 3.4, 3.5, 7.2); where ours differ, docs/differences.md says so.

| field          | explicit                | automatic                                                            |
|----------------|-------------------------|----------------------------------------------------------------------|
| context_window | num_ctx, CONTEXT_LENGTH | by device memory: 262144 / 32768 / 4096; as prompts need (growth.py) |
| num_parallel   | OLLAMA_NUM_PARALLEL     | 4, 2 or 1 slots by memory                                            |
| n_batch        | num_batch               | embedding: min(2048, window); CPU: half a second; GPU: by all slots  |
| use_mmap       | use_mmap                | off on CPU and where host memory is short, else the engine's choice  |
| n_threads      | num_thread              | OLLAMA_THREADS, else the runner's own choice                         |

The batch on CPU is what one engine step may take, and a cancel is noticed between steps. The engine has one batch size
for its whole life (llama_n_batch of the context; no request field), so it is sized for a prompt that is alone: about
half a second of work, by how fast this model, or another one here, has read before, and 64 tokens at least. Beside
others, inference/running/prefill.py hands it over in smaller pieces (`RunnerSpec.paced`).
From 64 tokens on the engine computes flash attention in tiles, which makes it the faster choice at every depth; below,
attention without it is. Measured (SmolLM2, 2 cores, prompt of 2,900 tokens): ADR 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from corral.config import Settings
from corral.core import Notice
from corral.options import defaults as option_defaults
from corral.runner.reading import NOTHING_READ, Reading
from corral.runner.spec import FLASH_TILE, RunnerSpec, least_batch
from corral.sched.drafts import Drafting, drafting, repeating
from corral.sched.memory import SLOT_CHOICES, HostFigures, MemoryEstimate, ModelFacts, Room, estimate
from corral.store.manifests import ADAPTER, DRAFT, PROJECTOR
from corral.store.model import Model

GIB = 2**30
CPU_STEPS = (512, 384, 256, 192, 128, 96, FLASH_TILE)  # see the top of this file
CPU_STEP_S = 0.5
CPU_FLOPS_PER_CORE = 20e9  # of quantized weights, until a model has read anything here; the least measured anywhere
PROMPT_TOKENS_PER_STEP = 12  # of a step on CPU that also takes a token of every slot
MIN_WINDOW = 4
MIN_VISION_WINDOW = 2048
DEFAULT_WINDOW = 4096
EXACT_WINDOW, WINDOW_STEP = 8192, 2048  # a window is as asked for up to there, and then a multiple of this or more
WINDOW_TIERS = ((47 * GIB, 262144), (23 * GIB, 32768))  # memory of all devices -> automatic window
EMBEDDING_BATCH = 2048
# Families whose caches cannot be shared by slots. Source: ollama server/sched.go, 2026-08 (spec native-api 7.2).
ONE_SLOT_FAMILIES = frozenset(
    {
        "mllama",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "nemotron_h_omni",
    }
)
_IMAGE_MIN_TOKENS = {"qwen2vl": 1024, "qwen25vl": 1024, "qwen3vl": 1024, "qwen3vlmoe": 1024}
_QUANTIZED_KV = frozenset({"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"})
_HOST_SHARE = 0.8  # of the host's memory that a runner with automatic slots may take


class Purpose(StrEnum):
    """What the runner is for; an engine serves one of them."""

    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANK = "rerank"


class LaunchPlan(NamedTuple):
    """What to ask the scheduler for. automatic: names of `spec` fields that nobody asked for."""

    spec: RunnerSpec
    automatic: frozenset[str]
    memory: MemoryEstimate
    notices: tuple[Notice, ...]


def plan(
    model: Model,
    options: Mapping[str, Any],
    settings: Settings,
    host: HostFigures,
    *,
    explicit: frozenset[str] | None = None,
    purpose: Purpose = Purpose.COMPLETION,
    context_shift: bool = True,
    chat_template: str | None = None,
    least_window: int = 0,
    reading: Reading = NOTHING_READ,
) -> LaunchPlan:
    """The load that serves this model with these options (typed values, defaults may be among them).

    explicit: names of options that the model's author or the caller set; None = all of `options`. chat_template: as
    RunnerSpec's. least_window: tokens that the window has at least, as far as the model was trained on so many.
    reading: how fast prompts are read here, as far as known. Reads the model's headers if nobody has yet: call it where
    that may block.
    """
    explicit = frozenset(options) if explicit is None else explicit
    facts = model_facts(model)
    window = window_for(options, facts, settings, host, has_vision=bool(model.projector_sources), least=least_window)
    on_device = bool(host.devices) and _device_share(options, facts) > 0
    notices: list[Notice] = []
    kv_type, flash = _cache_type(settings, notices)
    slots, slots_free = _slots(model, settings, purpose)
    on_cpu = 0 if on_device else _cpu_batch(facts, host, reading)
    step = _step(model, facts, options, explicit, settings, on_cpu, purpose=purpose, window=window, slots=slots)
    notices += step.notices
    batch, drafts = step.batch, step.drafts
    flash = _flash_attention(flash, batch, purpose, on_device=on_device)
    mmap = _use_mmap(options, explicit, facts, host, on_device=on_device)
    memory = estimate(
        facts,
        context_window=window,
        slots=slots,
        n_batch=batch,
        kv_cache_type=kv_type,
        use_mmap=bool(mmap),
        flash_attention=bool(flash),
        gpu_share=_device_share(options, facts) if on_device else 0.0,
        tiles=host.tiles,
    )
    layers_free = on_device and int(options.get("num_gpu", -1)) < 0
    if layers_free:
        # as if this were the only runner; the policy sees to the others
        memory = memory.spilled(host.device_total_bytes, slots=1 if slots_free else slots)
    if slots_free:
        memory = memory.at(slots=_slots_that_fit(memory, host))
    spec = RunnerSpec(
        model_path=model.weights or Path(),
        projector_paths=model.projector_sources,
        adapter_paths=model.adapters,
        draft_path=drafts.path,
        context_window=window,
        num_parallel=memory.slots,
        n_batch=batch,
        n_ubatch=batch if purpose is not Purpose.COMPLETION else 0,
        n_gpu_layers=int(options.get("num_gpu", -1)),
        main_gpu=options.get("main_gpu"),
        use_mmap=mmap,
        n_threads=int(options.get("num_thread") or settings.threads),
        flash_attention=flash,
        kv_cache_type=kv_type,
        context_shift=context_shift and purpose is Purpose.COMPLETION,
        embedding=purpose is Purpose.EMBEDDING,
        rerank=purpose is Purpose.RERANK,
        chat_template=chat_template,
        draft_num_predict=drafts.tokens,
        speculation=drafts.kind,
        paced=not on_device and purpose is Purpose.COMPLETION,
        image_min_tokens=_IMAGE_MIN_TOKENS.get(facts.architecture, 0) if model.projector_sources else 0,
        translation=model.translation,
        work_per_token=_work_per_token(facts),
        rolls_back=purpose is Purpose.COMPLETION and memory.checkpoint_bytes > 0,
    )
    automatic = _automatic(explicit, settings, slots_free=slots_free, layers_free=layers_free)
    return LaunchPlan(spec, automatic, memory, tuple(notices))


class _Step(NamedTuple):
    """What one step of the engine holds."""

    batch: int
    drafts: Drafting
    notices: tuple[Notice, ...]


def _step(
    model: Model,
    facts: ModelFacts,
    options: Mapping[str, Any],
    explicit: frozenset[str],
    settings: Settings,
    on_cpu: int,
    *,
    purpose: Purpose,
    window: int,
    slots: int,
) -> _Step:
    """Tokens of a step, as asked for or as suits the host, and what is drafted ahead in it.

    on_cpu: tokens that suit the CPU, 0 = it runs on a device.
    """
    notices: tuple[Notice, ...] = ()
    drafts = drafting(model, options) if purpose is Purpose.COMPLETION else Drafting()
    least = least_batch(slots, drafts.tokens)
    on_cpu = on_cpu and max(on_cpu, least - 1 + PROMPT_TOKENS_PER_STEP)
    batch = _batch(options, explicit, window, slots, purpose, on_cpu)
    if batch < least and "num_batch" in explicit:
        text = f'option "num_batch" {batch} was raised to {least}, the least that {slots} parallel slots need'
        notices = (Notice("num_batch_raised", text, {"num_batch": batch, "raised_to": least}),)
    batch = max(batch, least)
    if purpose is not Purpose.COMPLETION:
        batch = -(-batch // slots) * slots  # pooling parts a step evenly among the slots, else the engine aborts
        return _Step(batch, drafts, notices)
    if on_cpu and not drafts.kind and settings.speculation != "off" and not settings.llama_server:
        drafts = repeating(facts, options, slots=slots, n_batch=batch)
    return _Step(batch, drafts, notices)


def _flash_attention(wanted: bool | None, batch: int, purpose: Purpose, *, on_device: bool) -> bool | None:
    """Off on CPU where nobody decides and steps are small: a prompt of 1,400 tokens in steps of 16 is read 1.2 times
    as fast without it.
    """
    if wanted is None and not on_device and purpose is Purpose.COMPLETION and batch < FLASH_TILE:
        return False
    return wanted


def _automatic(explicit: frozenset[str], settings: Settings, *, slots_free: bool, layers_free: bool) -> frozenset[str]:
    fields = {"num_batch": "n_batch", "use_mmap": "use_mmap", "num_thread": "n_threads", "num_ctx": "context_window"}
    chosen_by_us = {field for option, field in fields.items() if option not in explicit}
    if settings.context_length > 0 or "num_ctx" in option_defaults(settings.defaults):
        chosen_by_us.discard("context_window")
    by_memory = {"num_parallel": slots_free, "n_gpu_layers": layers_free}
    return frozenset(chosen_by_us | {field for field, is_free in by_memory.items() if is_free})


def model_facts(model: Model) -> ModelFacts:
    """The numbers that memory depends on, from the headers of what the engine opens and the manifest's sizes."""
    sizes = dict.fromkeys((PROJECTOR, ADAPTER, DRAFT), 0)
    for layer in model.manifest.layers:
        if layer.media_type in sizes:
            sizes[layer.media_type] += layer.size
    header = model.engine_header
    if header is None:
        return ModelFacts()
    if model.projector_plan is not None:
        sizes[PROJECTOR] = model.projector_plan.size_bytes
    return ModelFacts.from_header(
        header, projector_bytes=sizes[PROJECTOR], adapter_bytes=sizes[ADAPTER], draft_bytes=sizes[DRAFT]
    )


def default_window(settings: Settings, host: HostFigures) -> int:
    """num_ctx where neither model nor request asks for one: the setting, else by the memory of all devices together."""
    set_by_operator = settings.context_length or option_defaults(settings.defaults).get("num_ctx")
    if set_by_operator:
        return int(set_by_operator)
    total = host.device_total_bytes
    return next((window for least, window in WINDOW_TIERS if total >= least), DEFAULT_WINDOW)


def window_for(
    options: Mapping[str, Any],
    facts: ModelFacts,
    settings: Settings,
    host: HostFigures,
    *,
    has_vision: bool,
    least: int = 0,
) -> int:
    """Tokens per slot: asked for or automatic, raised to what works, capped by what the model was trained on."""
    window = max(int(options.get("num_ctx", default_window(settings, host))), MIN_WINDOW, least)
    if window > EXACT_WINDOW:  # clients that count their tokens ask for another one each time
        window += -window % WINDOW_STEP
    if has_vision:
        window = max(window, MIN_VISION_WINDOW)
    return min(window, facts.context_length) if facts.context_length else window


def _device_share(options: Mapping[str, Any], facts: ModelFacts) -> float:
    """The part of the model that goes to the GPUs, if there are any; num_gpu counts layers, the output layer too."""
    layers = int(options.get("num_gpu", -1))
    if layers < 0 or not facts.block_count:
        return 1.0 if layers else 0.0
    return min(1.0, layers / (facts.block_count + 1))


def _cache_type(settings: Settings, notices: list[Notice]) -> tuple[str, bool | None]:
    """(KV cache type, flash attention): the engine stores quantized values only with flash attention."""
    kv_type, flash = settings.kv_cache_type, settings.flash_attention
    if kv_type not in _QUANTIZED_KV:
        return kv_type, flash
    if flash is False:
        text = f"the KV cache type {kv_type} needs flash attention, which is off; f16 is used"
        notices.append(Notice("kv_cache_type_ignored", text, {"kv_cache_type": kv_type}))
        return "", flash
    return kv_type, True


def _slots(model: Model, settings: Settings, purpose: Purpose) -> tuple[int, bool]:
    """(most slots, whether their number is ours to lower)."""
    families = {model.family, *(model.families or ())}
    if purpose is Purpose.COMPLETION and families & ONE_SLOT_FAMILIES:
        return 1, False
    if settings.num_parallel:
        return settings.num_parallel, False
    return SLOT_CHOICES[0], True


def _slots_that_fit(memory: MemoryEstimate, host: HostFigures) -> int:
    """What would fit if this were the only runner; the policy lowers it further when it is not."""
    if not host.total_bytes:
        return memory.slots
    device = int(host.device_total_bytes * _HOST_SHARE) if host.devices else None
    room = Room(int(host.total_bytes * _HOST_SHARE), device)
    return next((count for count in SLOT_CHOICES if room.holds(memory.at(slots=count))), SLOT_CHOICES[-1])


def _cpu_batch(facts: ModelFacts, host: HostFigures, reading: Reading) -> int:
    """The step for the prompt tokens that the CPU reads in CPU_STEP_S, as measured or by their work."""
    flops = reading.flops or host.cores * CPU_FLOPS_PER_CORE
    tokens = CPU_STEP_S * (reading.tokens_per_s or flops / _work_per_token(facts))
    if reading.step:
        tokens = min(tokens, reading.step)
    return next((step for step in CPU_STEPS if step <= tokens), FLASH_TILE)


def _work_per_token(facts: ModelFacts) -> float:
    """Operations to read a token: a multiplication and an addition a weight, but for the vocabulary's."""
    return 2.0 * max(1, facts.parameters - facts.vocabulary * facts.embedding_length)


def _batch(
    options: Mapping[str, Any], explicit: frozenset[str], window: int, slots: int, purpose: Purpose, on_cpu: int
) -> int:
    """on_cpu: what suits the CPU, 0 = it runs on a device."""
    if "num_batch" in explicit:
        return int(options["num_batch"])
    if purpose is not Purpose.COMPLETION:
        return min(EMBEDDING_BATCH, window)
    if on_cpu:
        return on_cpu
    tokens = window * slots
    return 2048 if tokens > 32768 else 1024 if tokens > 4096 else 512


def _use_mmap(
    options: Mapping[str, Any], explicit: frozenset[str], facts: ModelFacts, host: HostFigures, *, on_device: bool
) -> bool | None:
    if "use_mmap" in explicit:
        return bool(options["use_mmap"])
    reserve = max(8 * GIB, host.total_bytes // 10)
    if not on_device or host.available_bytes < facts.weights_bytes + reserve:
        return False
    return None
