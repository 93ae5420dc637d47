"""Where runners come from: `LocalLauncher` makes them as child processes of this one.

sched/ knows it as its `Launcher` protocol: it asks for a handle per load and never learns how a runner is made.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from corral.config import Settings, runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.kvcache import ConversationStore
from corral.runner.rundir import RuntimeDir
from corral.runner.spec import LaunchOptions, RunnerSpec


class LocalLauncher:
    """Runners as child processes of this one.

    `conversations`: what survives them; the scheduler saves before a stop and restores after a start.
    """

    def __init__(self, settings: Settings) -> None:
        environ = runner_environment()
        self._runtime = RuntimeDir(Path(environ["XDG_RUNTIME_DIR"]) if "XDG_RUNTIME_DIR" in environ else None)
        self.conversations = ConversationStore(settings.home / "kv", settings.saved_conversations_bytes)
        self._options = LaunchOptions(
            dir=self._runtime.path,
            sandbox=settings.sandbox,
            hang_timeout_s=settings.hang_timeout_s,
            load_timeout_s=settings.load_timeout_s,
            llama_server=settings.llama_server,
            environ=environ,
            kv_max_bytes=max(1, settings.saved_conversations_bytes),
            verbose=settings.debug > 1,
        )

    def create(self, spec: RunnerSpec) -> RunnerHandle:
        """A runner that is not started yet, with a directory name of its own."""
        options = replace(self._options, dir=self._runtime.next(), kv_dir=self.conversations.folder(spec))
        return RunnerHandle(spec, options)

    def close(self) -> None:
        """Remove the runtime directory."""
        self._runtime.close()
