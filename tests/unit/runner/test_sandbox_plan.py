"""What a runner may reach: the rules for a GPU's driver, and that a runner without one does not get them."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.runner import sandbox
from corral.runner.job import Job
from corral.runner.landlock import READ, Access
from corral.runner.spec import LaunchOptions, RunnerSpec

USES = READ | Access.WRITE_FILE | Access.IOCTL_DEV


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """A container that was given its second card only."""
    for name in ("nvidia1", "nvidiactl", "nvidia-uvm", "sda", "null"):
        (tmp_path / name).touch()
    (tmp_path / "dri").mkdir()
    return tmp_path


def test_a_driver_gets_its_devices_and_no_disk(dev: Path) -> None:
    rules = sandbox._gpu_rules({"LD_LIBRARY_PATH": "/opt/driver/lib64:"}, dev)
    devices = {path.name for path, rights in rules.items() if rights == USES}
    assert devices == {"nvidia1", "nvidiactl", "nvidia-uvm", "dri"}
    assert not any(path in rules for path in (dev, dev / "sda", Path("/dev")))
    assert rules[Path("/opt/driver/lib64")] == READ
    assert Path() not in rules


def test_a_driver_may_name_its_threads_else_it_does_not_begin(dev: Path) -> None:
    rights = sandbox._gpu_rules({}, dev)[Path("/proc/self/task")]
    assert rights == READ | Access.WRITE_FILE | Access.TRUNCATE


def test_what_a_driver_compiles_it_may_keep_where_the_operator_says(dev: Path) -> None:
    rules = sandbox._gpu_rules({"CUDA_CACHE_PATH": "/var/cache/cuda"}, dev)
    assert Access.MAKE_REG | Access.MAKE_DIR in rules[Path("/var/cache/cuda")]


def test_a_host_without_a_gpu_has_no_such_rules(tmp_path: Path) -> None:
    assert sandbox._gpu_rules({"LD_LIBRARY_PATH": "/opt/driver/lib64"}, tmp_path) == {}


@pytest.mark.parametrize("gpus", [True, False])
def test_a_runner_that_has_no_use_for_gpus_cannot_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: bool
) -> None:
    marker = Path("/dev/nvidia1")
    monkeypatch.setattr(sandbox, "_gpu_rules", lambda _: {marker: USES})
    job = Job(RunnerSpec(tmp_path / "m.gguf"), LaunchOptions(tmp_path, gpus=gpus), tmp_path / "s.sock", 1, 3)
    assert (marker in sandbox.plan(Job.from_json(job.to_json())).rules) is gpus
