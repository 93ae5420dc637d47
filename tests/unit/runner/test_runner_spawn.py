"""A runner that cannot even be spawned; everything later needs a process and is in tests/e2e/test_runner_process.py."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from corral.errors import RunnerFailedToStart
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec


async def test_a_spawn_that_fails_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    handle = RunnerHandle(RunnerSpec(Path("m.gguf")), LaunchOptions(tmp_path / "r"))
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    with pytest.raises(RunnerFailedToStart) as caught:
        await handle.start()
    assert str(caught.value) == "error starting llama-server: Resource temporarily unavailable"
    assert handle.closed.is_set()
    assert not (tmp_path / "r").exists()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before
