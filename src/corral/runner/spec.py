"""What a runner is told and what it tells back: frozen nouns with a JSON form; no I/O.

`RunnerSpec` says what to load and how; `LaunchOptions` how to keep the process; `RunnerInfo` what came of it. The
scheduler writes specs, `handle.py` sends them to `child.py` as JSON over stdin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from corral.runner.hugepages import Way

NGRAM = "ngram-simple"  # llama.cpp's word for drafts that are stretches of the text itself
FLASH_TILE = 64  # tokens of a step from which flash attention is computed in tiles (ggml-cpu's Q_TILE_SZ)
SLOT_PART = "slot.part"
PROMPT_CACHE_MIB = 1024
_PATH_TUPLES = frozenset({"projector_paths", "adapter_paths"})


def least_batch(slots: int, drafted: int) -> int:
    """Tokens that an engine step must hold: one of every slot with what was drafted after it, and some prompt."""
    return slots * (1 + drafted) + 1


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """What one runner loads; equal specs can share a runner. `context_window` is in tokens per slot."""

    model_path: Path
    projector_paths: tuple[Path, ...] = ()
    adapter_paths: tuple[Path, ...] = ()
    draft_path: Path | None = None
    context_window: int = 4096
    num_parallel: int = 1
    n_batch: int = 512  # tokens of one engine step
    n_ubatch: int = 0  # 0 = same as n_batch
    n_gpu_layers: int = -1  # -1 = as many as fit
    main_gpu: int | None = None
    use_mmap: bool | None = None  # None = the engine's choice
    n_threads: int = 0  # 0 = as many as tune.py measured, else the host's share
    prompt_threads: int = 0  # 0 = as n_threads
    repacks: bool = True  # whether the CPU's kernels may lay weights out anew, where they are faster for it
    flash_attention: bool | None = None  # None = the engine's choice
    kv_cache_type: str = ""  # "" = f16
    context_shift: bool = True
    embedding: bool = False
    rerank: bool = False
    chat_template: str | None = None  # None = the GGUF's own; "chatml" when Corral renders the prompt itself
    draft_num_predict: int = 0
    image_min_tokens: int = 0
    paced: bool = False  # steps take long enough that long prompts go in pieces while others are served
    speculation: str = ""  # how tokens are drafted ahead, in llama.cpp's words (draft-mtp); "" = they are not
    translation: str = ""  # rules by which the engine's files are made from the paths above; "" = it opens these
    work_per_token: float = 0.0  # operations, about, that reading a token of a prompt takes; 0 = unknown
    rolls_back: bool = False  # its cache goes back to a checkpoint only, and cannot be cut at any token

    def to_json(self) -> str:
        """One line of JSON; paths as text."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> RunnerSpec:
        """The inverse of to_json; raises ValueError for unknown or missing fields."""
        values = json.loads(text)
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown or "model_path" not in values:
            raise ValueError(f"not a RunnerSpec: {', '.join(sorted(unknown)) or 'no model_path'}")
        for name in _PATH_TUPLES & values.keys():
            values[name] = tuple(Path(path) for path in values[name])
        values["model_path"] = Path(values["model_path"])
        if values.get("draft_path") is not None:
            values["draft_path"] = Path(values["draft_path"])
        return cls(**values)

    @property
    def copies_slots(self) -> bool:
        """Whether a slot that was read from a file is whole: the cells of a model that drafts are in none."""
        return self.draft_path is None and self.speculation in ("", NGRAM)

    @property
    def readable_paths(self) -> tuple[Path, ...]:
        """Every file that the engine has to open."""
        draft = (self.draft_path,) if self.draft_path else ()
        return (self.model_path, *self.projector_paths, *self.adapter_paths, *draft)


@dataclass(frozen=True, slots=True)
class Planned:
    """What was reckoned with before a load; 0 = unknown.

    host_bytes: memory of the runner's own, on the host. checkpoint_bytes: of one state that a slot can go back to;
    least_checkpoints: how many of them for each slot are among host_bytes.
    """

    host_bytes: int = 0
    checkpoint_bytes: int = 0
    least_checkpoints: int = 0


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """How the server keeps its runners; the same for all of them.

    dir: this server's runtime directory (0700); each runner gets its own directory below it. Socket paths are bounded
    by 107 bytes, so it has to be short.
    """

    dir: Path
    sandbox: bool = True
    hang_timeout_s: float = 30.0  # a busy engine without progress for so long is killed; math.inf = never
    load_timeout_s: float = 300.0  # a load without a log line for so long is given up; math.inf = never
    llama_server: str = ""  # an external llama-server binary; "" = the engine of the xllamacpp wheel
    environ: Mapping[str, str] = field(default_factory=dict)  # all that the child sees of the environment
    kv_dir: Path | None = None  # where slots may be saved; None = nowhere
    kv_copy: str = ""  # the file there by which slots are copied to one another; "" = they are not
    kv_max_bytes: int = 4 * 2**30  # of one saved slot
    memory_limit_bytes: int = 0  # of memory that is the runner's own; 0 = none
    memory_room_bytes: int = 0  # of these, what was not planned for; 0 = ours to choose
    gpus: bool = True  # whether this runner may reach GPUs
    prompt_cache_mib: int = PROMPT_CACHE_MIB  # the engine's own store of conversations that lost their slot, in RAM
    checkpoints: int = 32  # states of a slot that the engine can go back to, where tokens cannot be cut off
    verbose: bool = False  # the engine's debug log; it contains prompts
    huge_pages: Way = Way.NONE
    is_measured: bool = False  # what it does after a load, it is to do before it serves
    kernels: str = ""  # folder of the pack that stands for the engine's own CPU backend; "" = none

    @property
    def kv_part(self) -> Path | None:
        """The file that a runner saves slots to; the server makes it, and takes over what is in it."""
        return None if self.kv_dir is None else self.kv_dir / SLOT_PART

    @property
    def kv_written(self) -> tuple[Path, ...]:
        """All files that a runner may write."""
        if self.kv_dir is None or self.kv_part is None:
            return ()
        return (self.kv_part, self.kv_dir / self.kv_copy) if self.kv_copy else (self.kv_part,)


@dataclass(frozen=True, slots=True)
class RunnerMemory:
    """Bytes a runner holds. The parts come from the engine's load log; 0 = it did not say."""

    rss_bytes: int = 0
    anonymous_bytes: int = 0  # of rss_bytes: not backed by a file, so not shareable and not droppable
    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    compute_bytes: int = 0
    device_bytes: int = 0  # of the three: on GPUs


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """Which confinements are active in the runner, and why the others are not."""

    active: tuple[str, ...] = ()  # of "landlock", "seccomp", "no_new_privs", "rlimits", "capabilities"
    missing: Mapping[str, str] = field(default_factory=dict)  # mechanism -> reason

    @property
    def confined(self) -> bool:
        """Whether a hostile model meets both walls: the files it can reach and the calls it can make."""
        return {"landlock", "seccomp"} <= set(self.active)


@dataclass(frozen=True, slots=True)
class RunnerInfo:
    """What a ready runner says about itself."""

    context_window: int = 0  # tokens a slot can hold, as the engine capped it
    slots: int = 1
    build: str = ""
    sandbox: SandboxReport = field(default_factory=SandboxReport)
    memory: RunnerMemory = field(default_factory=RunnerMemory)
    load_duration_s: float = 0.0
    props: Mapping[str, Any] = field(default_factory=dict)  # the engine's /props
    kernels: str = ""  # the pack in the place of the engine's own kernels; "" = none
    huge_pages: bool = False  # whether its memory was asked to be in huge pages
    device_error: str = ""  # why it found no GPU, where it looked for one
    slot_copy: str = ""  # the file by which its slots can be copied to one another; "" = they cannot
