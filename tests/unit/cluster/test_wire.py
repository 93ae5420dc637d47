"""Orders and reports come out of a line as they went in; errors are the same errors again."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.cluster.wire import (
    Create,
    Ended,
    Need,
    Problem,
    Ready,
    Report,
    Source,
    error_of,
    line,
    problem_of,
    read_order,
    read_told,
)
from corral.errors import (
    BlobNotFound,
    ChatTemplateUnusable,
    CorralError,
    NotEnoughSpace,
    RegistryError,
    RunnerDied,
    RunnerFailedToStart,
    RunnerHung,
    RunnerMisbehaved,
    RunnerOutgrown,
)
from corral.runner.spec import Planned, RunnerInfo, RunnerSpec, SandboxReport
from corral.sched.memory import DeviceFigures, HostFigures

SPEC = RunnerSpec(Path("/a/sha256-1"), (Path("/a/p"),), draft_path=Path("/a/d"), use_mmap=False, main_gpu=1)
INFO = RunnerInfo(512, 4, "b", SandboxReport(("seccomp",), {"landlock": "old"}), props={"a": [1]})


def test_an_order_is_one_line_and_comes_back_equal() -> None:
    order = Create(7, SPEC, Planned(5, 6, 7), (Need("sha256:1", 9, (Source("127.0.0.3", 80, "t"),)),))
    text = line(order)
    assert text.count(b"\n") == 1
    assert read_order(text) == order


@pytest.mark.parametrize(
    "told",
    [
        Report(HostFigures(2**40, 5, (DeviceFigures(7, 6),), 3), ("sha256:1",)),
        Report(HostFigures(1, 1)),
        Ready(
            1, SPEC, RunnerInfo(512, 4, "b", SandboxReport(("seccomp",), {"landlock": "old"}), props={"a": [1]}), 9, "t"
        ),
        Ended(3, Problem("RunnerDied", (-9, ["killed"])), -9, ("killed",)),
    ],
)
def test_what_an_agent_tells_comes_back_equal(told: object) -> None:
    assert str(read_told(line(told))) == str(told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        RunnerFailedToStart("no", ("a", "b"), out_of_memory=True),
        ChatTemplateUnusable("line 3"),
        RunnerDied(-9, ("x",)),
        RunnerHung(30.0, ("x",)),
        RunnerOutgrown("memory", 5, ("x",)),
        RunnerMisbehaved("status 300"),
        NotEnoughSpace(5, 3),
        BlobNotFound("sha256:1"),
    ],
)
def test_an_error_is_the_same_on_the_other_side(error: CorralError) -> None:
    again = error_of(read_told(line(Ended(1, problem_of(error)))).problem)  # type: ignore[union-attr]
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_what_has_no_form_of_its_own_is_a_failed_start_that_names_no_path() -> None:
    assert str(error_of(problem_of(RegistryError("nobody has it")))) == "nobody has it"
    strange = error_of(problem_of(PermissionError(13, "Permission denied", "/secret/path")))
    assert isinstance(strange, RunnerFailedToStart)
    assert str(strange) == "error starting the runner: Permission denied"


def test_an_error_of_another_version_is_still_one() -> None:
    assert isinstance(error_of(Problem("NewError", (1, 2, 3, 4))), RunnerDied)
    assert isinstance(error_of(Problem("BlobNotFound", (1, 2, 3, 4))), RunnerDied)
