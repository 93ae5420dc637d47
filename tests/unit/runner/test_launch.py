"""What a launch adds to the environment of a runner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from corral.config import Settings
from corral.runner.launch import LocalLauncher
from corral.runner.spec import RunnerSpec


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalLauncher:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    return LocalLauncher(Settings(home=tmp_path / "home", threads=2))


async def test_a_runner_without_layers_on_a_gpu_does_not_see_one(launcher: LocalLauncher, tmp_path: Path) -> None:
    spec = RunnerSpec(tmp_path / "m.gguf")
    assert launcher.create(spec).options.environ["CUDA_VISIBLE_DEVICES"] == "1"
    environ = launcher.create(replace(spec, n_gpu_layers=0)).options.environ
    assert (environ["CUDA_VISIBLE_DEVICES"], environ["HIP_VISIBLE_DEVICES"]) == ("", "")


async def test_gpus_are_reached_only_where_the_engine_can_use_some(
    launcher: LocalLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunnerSpec(tmp_path / "m.gguf")
    assert launcher.create(spec).options.gpus  # not known yet
    assert not launcher.create(replace(spec, n_gpu_layers=0)).options.gpus
    monkeypatch.setattr(launcher.devices, "_ask", lambda: "[]")
    launcher.devices.read()
    assert not launcher.create(spec).options.gpus


async def test_threads_are_the_users_and_waiting_is_short(launcher: LocalLauncher, tmp_path: Path) -> None:
    handle = launcher.create(RunnerSpec(tmp_path / "m.gguf"))
    assert handle.spec.n_threads == 2
    assert handle.options.environ["GOMP_SPINCOUNT"] == "1000"
    assert not launcher.outdated(RunnerSpec(tmp_path / "m.gguf"), handle.spec)
