"""From a RunnerSpec to llama.cpp's settings: one table, read by child.py and by an external llama-server's arguments.

Pure. The keys are the names of llama.cpp's `common_params` (xllamacpp.CommonParams has the same).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.runner.spec import NGRAM, LaunchOptions, RunnerSpec, least_batch

_CHECKPOINT_STEP = 256  # tokens between two checkpoints; less is read again as quickly
_ANY_SIMILARITY = 1e-6
LOG_INFO, LOG_TRACE, LOG_DEBUG = 3, 4, 5  # llama.cpp's verbosity; from DEBUG on, prompts are logged


@dataclass(frozen=True, slots=True)
class Flag:
    """One engine setting, and the words that set it on a command line (none: an external engine's default stands)."""

    name: str
    value: Any
    words: tuple[str, ...] = ()


def _flag(name: str, value: Any, argument: str) -> Flag:
    return Flag(name, value, (argument,) if value is True else (argument, str(value)))


def engine_flags(spec: RunnerSpec, options: LaunchOptions, socket_path: Path) -> list[Flag]:
    """Everything that differs from llama.cpp's defaults, for one runner.

    Source of the choice: spec native-api 3 and 3.1 (ollama llm/llama_server.go), and measurements in docs/adr.
    """
    return [
        *_place_flags(spec, options, socket_path),
        *_size_flags(spec, options),
        *_load_flags(spec, options),
        *_kind_flags(spec),
    ]


def _place_flags(spec: RunnerSpec, options: LaunchOptions, socket_path: Path) -> list[Flag]:
    """Where it listens and what it may offer; nothing of the engine's own web surface."""
    flags = [
        Flag("hostnames", [str(socket_path)], ("--host", str(socket_path))),
        Flag("ui", False),
        Flag("cors_origins", "http://localhost"),
        _flag("endpoint_slots", True, "--slots"),
        _flag("offline", True, "--offline"),
        Flag("sse_ping_interval", -1),  # a comment is no progress, and the socket is local
        _flag("verbosity", _verbosity(spec, options), "--verbosity"),
    ]
    if options.kv_dir is not None:
        flags.append(_flag("slot_save_path", f"{options.kv_dir}/", "--slot-save-path"))
    return flags


def _verbosity(spec: RunnerSpec, options: LaunchOptions) -> int:
    """The memory breakdown is in the trace log; embedding runners, with hundreds of calls a second, stay terse."""
    if options.verbose:
        return LOG_DEBUG
    return LOG_INFO if spec.embedding else LOG_TRACE


def _size_flags(spec: RunnerSpec, options: LaunchOptions) -> list[Flag]:
    batch = max(spec.n_batch, least_batch(spec.num_parallel, spec.draft_num_predict))
    flags = [
        _flag("n_ctx", spec.context_window * spec.num_parallel, "--ctx-size"),
        _flag("n_parallel", spec.num_parallel, "--parallel"),
        _flag("n_batch", batch, "--batch-size"),
        _flag("n_ubatch", min(spec.n_ubatch or batch, batch), "--ubatch-size"),
        # idle slots keep their cells: the pool holds all of them, so clearing would only force copies
        Flag("cache_idle_slots", False),
        _flag("cache_ram_mib", options.prompt_cache_mib, "--cache-ram"),
        _flag("n_ctx_checkpoints", options.checkpoints, "--ctx-checkpoints"),
        Flag("checkpoint_min_step", _CHECKPOINT_STEP),  # an external engine may be too old for the words
        # calls name their slot; what stands in it goes to the store, however little it shares with the new prompt
        _flag("slot_prompt_similarity", _ANY_SIMILARITY, "--slot-prompt-similarity"),
    ]
    if spec.n_gpu_layers >= 0:
        flags.append(_flag("n_gpu_layers", spec.n_gpu_layers, "--gpu-layers"))
    if spec.main_gpu is not None:
        flags += [_flag("split_mode", "none", "--split-mode"), _flag("main_gpu", spec.main_gpu, "--main-gpu")]
    if spec.n_threads > 0:
        flags.append(_flag("n_threads", spec.n_threads, "--threads"))
    if spec.prompt_threads > 0:
        flags.append(_flag("prompt_threads", spec.prompt_threads, "--threads-batch"))
    if not spec.repacks:
        flags.append(_flag("no_extra_bufts", True, "--no-repack"))
    if spec.flash_attention is not None:
        flags.append(_flag("flash_attn_type", "on" if spec.flash_attention else "off", "--flash-attn"))
    if spec.kv_cache_type:
        flags.append(_flag("cache_type_k", spec.kv_cache_type, "--cache-type-k"))
        flags.append(_flag("cache_type_v", spec.kv_cache_type, "--cache-type-v"))
    return flags


def _load_flags(spec: RunnerSpec, options: LaunchOptions) -> list[Flag]:
    """How the weights come in, and what a load on the CPU can do without.

    Without a GPU there is nothing to fit the model into, yet the engine reads its vocabulary once more for that; and a
    warm-up clears all caches again, to compute what the probe after it computes as well.
    """
    flags = []
    if spec.use_mmap is not None:
        flags.append(_flag("load_mode", "mmap" if spec.use_mmap else "none", "--load-mode"))
    if not options.gpus:
        flags.append(Flag("fit_params", False))  # an external engine may be too old for the words
        if not spec.use_mmap and not spec.projector_paths:  # mapped weights are read by it; a projector plans by it
            flags.append(Flag("warmup", False, ("--no-warmup",)))
    return flags


def _kind_flags(spec: RunnerSpec) -> list[Flag]:
    """What the model is for: embedding, reranking, images, adapters, a draft."""
    flags = [_flag("model", spec.model_path, "--model")]
    if spec.embedding or spec.rerank:
        flags.append(_flag("embedding", True, "--embedding"))
    if spec.rerank:
        flags.append(_flag("pooling_type", "rank", "--pooling"))
    elif spec.context_shift and not spec.embedding:
        flags.append(_flag("ctx_shift", True, "--context-shift"))
    if spec.chat_template is not None:
        flags.append(_flag("chat_template", spec.chat_template, "--chat-template"))
        jinja = spec.chat_template != "chatml"
        flags.append(Flag("use_jinja", jinja, ("--jinja" if jinja else "--no-jinja",)))
    flags += [_flag("mmproj", path, "--mmproj") for path in spec.projector_paths[:1]]
    flags += [_flag("lora", path, "--lora") for path in spec.adapter_paths]
    if spec.speculation:
        flags.append(_flag("speculation", spec.speculation, "--spec-type"))
    if spec.draft_path is not None:
        flags.append(_flag("draft", spec.draft_path, "--model-draft"))
    if spec.speculation == NGRAM:
        sizes = ("--spec-ngram-simple-size-n", "--spec-ngram-simple-size-m")
        length = spec.draft_num_predict
        flags.append(Flag("ngram", length, tuple(word for size in sizes for word in (size, str(length)))))
    elif spec.draft_num_predict > 0:
        flags.append(_flag("draft_n_max", spec.draft_num_predict, "--spec-draft-n-max"))
    if spec.image_min_tokens > 0:
        flags.append(_flag("image_min_tokens", spec.image_min_tokens, "--image-min-tokens"))
    return flags


def server_arguments(flags: list[Flag]) -> list[str]:
    """The same settings as arguments of an external llama-server."""
    return [word for flag in flags for word in flag.words]
