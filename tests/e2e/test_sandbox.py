"""A real runner in its sandbox, as the kernel shows it. What it keeps out: tests/security/test_sandbox_attacks.py."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")]
ENVIRON = {**runner_environment(), "OMP_WAIT_POLICY": "passive"}  # other tests may run beside this one


@pytest.fixture
def place() -> Iterator[Path]:
    """A short folder for sockets."""
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        yield Path(folder)


@pytest.fixture
async def handle(models_dir: Path, place: Path, request: pytest.FixtureRequest) -> AsyncIterator[RunnerHandle]:
    """A runner on SmolLM2; the parameter says whether it is confined."""
    options = LaunchOptions(place / "r", sandbox=request.param, environ=ENVIRON, kv_dir=place)
    runner = RunnerHandle(RunnerSpec(models_dir / "smollm2.gguf", context_window=512, n_batch=16), options)
    await runner.start()
    yield runner
    await runner.stop()


@pytest.mark.parametrize("handle", [True], indirect=True)
async def test_a_real_runner_is_confined_as_it_says(handle: RunnerHandle) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{handle.pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert (status["Seccomp"] == "2") == ("seccomp" in handle.info.sandbox.active)
    assert (status["NoNewPrivs"] == "1") == ("no_new_privs" in handle.info.sandbox.active)
    if os.geteuid() == 0 and "capabilities" in handle.info.sandbox.active:
        assert int(status["CapEff"], 16) == 1 << 2


@pytest.mark.parametrize("handle", [False], indirect=True)
async def test_switched_off_is_reported_as_such(handle: RunnerHandle) -> None:
    assert handle.info.sandbox.active == ()
    assert handle.info.sandbox.missing == {"sandbox": "switched off"}
    assert not handle.info.sandbox.confined
