"""Where runners come from: `LocalLauncher` makes them as child processes of this one.

sched/ knows it as its `Launcher` protocol: it asks for a handle per load and never learns how a runner is made.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from corral.config import Settings
from corral.runner.allowance import allow
from corral.runner.candidates import Tuning
from corral.runner.devices import DeviceProbe
from corral.runner.drafts import DraftTallies
from corral.runner.enginefiles import EngineFiles
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.hostload import HostLoad, usable_cores
from corral.runner.hugepages import MALLOC_ASKS, Way, offered_way
from corral.runner.kernels import BACKEND, Pack, usable_pack
from corral.runner.kvcache import ConversationStore
from corral.runner.processor import TILES
from corral.runner.reading import ReadingSpeeds
from corral.runner.rundir import RuntimeDir
from corral.runner.spec import PROMPT_CACHE_MIB, LaunchOptions, Planned, RunnerSpec
from corral.runner.tune import Trial, Tuner, host_name, openmp_environment

# with `n_gpu_layers` 0 the engine would still compute large batches on a GPU, and take some hundred MiB of it
_NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "GGML_VK_VISIBLE_DEVICES": ""}


class LocalLauncher:
    """Runners as child processes of this one.

    `conversations`: what survives them; the scheduler saves before a stop and restores after a start. `devices`: the
    GPUs that they can use. `host_load`: what others take of the cores. `files`: what they open in the place of blobs;
    None = the blobs.
    """

    def __init__(self, settings: Settings, files: EngineFiles | None = None) -> None:
        self._files = files
        environ = runner_environment()
        self._runtime = RuntimeDir(Path(environ["XDG_RUNTIME_DIR"]) if "XDG_RUNTIME_DIR" in environ else None)
        engine = engine_identity(settings.llama_server)
        self.conversations = ConversationStore(settings.home / "kv", settings.saved_conversations_bytes, engine)
        self.devices = DeviceProbe(environ, settings.llama_server)
        self.host_load = HostLoad()
        self._home = settings.home
        self._takes_kernels = settings.kernels != "off" and not settings.llama_server
        self._pack: Pack | None = None
        off = settings.huge_pages == "off"
        self._huge_pages = Way.NONE if off else offered_way(execs=bool(settings.llama_server))
        self._drafts = DraftTallies()
        self._tuner = Tuner(settings.home / "tuning.json", self.host_load, settings.threads)
        self.reading = ReadingSpeeds(settings.home / "reading.json")
        self.look_for_kernels()
        self._options = LaunchOptions(
            dir=self._runtime.path,
            sandbox=settings.sandbox,
            hang_timeout_s=settings.hang_timeout_s,
            load_timeout_s=settings.load_timeout_s,
            llama_server=settings.llama_server,
            environ=environ,
            memory_room_bytes=settings.runner_room_bytes,
            kv_max_bytes=max(1, settings.saved_conversations_bytes),
            prompt_cache_mib=0 if settings.separates_keys else PROMPT_CACHE_MIB,  # the engine cannot part it
            verbose=settings.debug > 1,
        )

    def create(
        self,
        spec: RunnerSpec,
        planned: Planned = Planned(),  # noqa: B008  frozen
        node: str = "",
    ) -> RunnerHandle:
        """A runner that is not started yet: the spec's open settings filled in to suit the host.

        `planned` is what the runner may take of its memory, with room; unknown = as much as it wants. `node` is this
        machine, whatever a cluster calls it.
        """
        tuning = self._tuner.choose(spec)
        spec = self._drafts.apply(tuning.apply(spec))
        handle = self._make(spec, tuning, self.conversations.folder(spec), planned)
        handle.client.drafts = self._drafts.of(spec)
        handle.client.reading = self.reading.of(spec)
        return handle

    def is_tuned(self, spec: RunnerSpec) -> bool:
        """Whether this model's launch settings have been measured on this host."""
        return self._tuner.knows(spec)

    def outdated(self, spec: RunnerSpec, launched: RunnerSpec) -> bool:
        """Whether `create(spec)` would now launch clearly otherwise than `launched`, a runner's own spec."""
        return self._tuner.outdated(spec, launched) or self._drafts.apply(spec).speculation != launched.speculation

    async def measure(self, spec: RunnerSpec, budget_s: float = math.inf, host_bytes: int = 0) -> AsyncIterator[Trial]:
        """Find and remember the launch settings for a model, see Tuner.measure; takes the host, so do it when idle."""

        def make(candidate: RunnerSpec, tuning: Tuning) -> RunnerHandle:
            return self._make(candidate, tuning, None, Planned(host_bytes), is_measured=True)

        async with contextlib.aclosing(self._tuner.measure(spec, make, budget_s)) as trials:
            async for trial in trials:
                if trial.chosen and spec.paced:
                    self.reading.measured(spec, trial.tuning.read_per_s, trial.tuning.step)
                yield trial

    def _make(
        self, spec: RunnerSpec, tuning: Tuning, kv_dir: Path | None, planned: Planned, *, is_measured: bool = False
    ) -> RunnerHandle:
        environ = {**self._options.environ, **openmp_environment(tuning)}
        if spec.n_gpu_layers == 0:
            environ |= _NO_GPU
        huge_pages = self._huge_pages if tuning.huge_pages and not spec.use_mmap else Way.NONE
        if huge_pages is Way.AT_ONCE:
            environ |= MALLOC_ASKS
        options = replace(
            self._options,
            dir=self._runtime.next(),
            kv_dir=kv_dir,
            environ=environ,
            gpus=spec.n_gpu_layers != 0 and self.devices.may_exist,
            kernels=str(self._pack.folder) if self._pack else "",
            huge_pages=huge_pages,
            is_measured=is_measured,
        )
        options = allow(options, spec, planned)
        return RunnerHandle(spec, options, self._files)

    def look_for_kernels(self) -> None:
        """Use a pack that is there by now, from the next launch on. Blocking; each runner checks it again."""
        self._pack = usable_pack(self._home) if self._takes_kernels else None
        host = host_name(usable_cores(), "" if self._pack is None else self._pack.digests[BACKEND])
        self._tuner.begin(host, repacking=self._pack is not None, huge_pages=bool(self._huge_pages))
        self.reading.begin(host)

    def has_tiles(self) -> bool:
        """Whether the next launch's kernels lay weights out for AMX."""
        return self._pack is not None and TILES in self._pack.features

    def close(self) -> None:
        """Remove the runtime directory, and keep what was learned."""
        self._runtime.close()
        self.reading.save()


def engine_identity(llama_server: str) -> str:
    """What tells one engine from another: the wheel's version, or a binary with its size and age."""
    if not llama_server:
        return f"xllamacpp {version('xllamacpp')}"
    try:
        status = Path(llama_server).stat()
    except OSError:
        return llama_server
    return f"{llama_server} {status.st_size} {status.st_mtime_ns}"
