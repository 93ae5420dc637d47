"""A taken-over engine tries each class of system calls, as root and as a plain user, in the place of the wheel's engine
and as an external one. The child is the real one, up to where the engine begins; tests/fakes/hostile/attacks.py has
the attempts.

What is shown here is what README and docs/security.md promise of the sandbox.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.hostile import attacks

from corral.runner.environment import runner_environment
from corral.runner.job import Job
from corral.runner.spec import LaunchOptions, RunnerSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = ROOT / "tests/fakes/hostile"
NOBODY = 65534
LIMIT_BYTES = 2**30
CLASSES = tuple(attacks.CLASSES)

Report = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Case:
    """Who attacks from where."""

    user: str
    engine: str

    def __str__(self) -> str:
        return f"{self.user}-{self.engine}"


CASES = [Case(user, engine) for user in ("root", "plain user") for engine in ("in-process", "script")]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    if chosen.user == "root" and os.geteuid() != 0:
        pytest.skip("the tests do not run as root")
    return chosen


@pytest.fixture(scope="module")
def outcome(case: Case) -> Iterator[tuple[dict[str, Any], Report]]:
    """What the child reported of its sandbox, and what it could do."""
    with tempfile.TemporaryDirectory(prefix="ch-") as folder:
        yield attacked(Path(folder), case)


def attacked(place: Path, case: Case) -> tuple[dict[str, Any], Report]:
    uid = NOBODY if case.user == "plain user" and os.geteuid() == 0 else os.geteuid()
    python = interpreter(uid)
    options = make_place(place, python if case.engine == "script" else "")
    for path in (place, *place.rglob("*")):
        os.chown(path, uid, -1)
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as foreign, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        foreign.bind(str(place / "foreign.sock"))
        foreign.listen()
        (place / "foreign.sock").chmod(0o777)
        abstract.bind(f"\0corral-{place.name}")
        abstract.listen()
        with (place / "secret").open("rb") as file:
            inherited = fcntl.fcntl(file, fcntl.F_DUPFD, 200)  # a number that the child itself does not come to use
            try:
                facts = facts_of(place, options, tcp.getsockname()[1], inherited)
                sandbox, lines = started(python, uid, options, place, facts, inherited)
                return sandbox, json.loads(lines[-1])
            finally:
                os.close(inherited)


def make_place(place: Path, script_python: str) -> LaunchOptions:
    """The folders that a server makes for a runner, a file that is none of its business, and the engine."""
    for name in ("m", "run", "kv"):
        (place / name).mkdir()
    (place / "m/model.gguf").write_bytes(b"GGUF")
    (place / "secret").write_text("hunter2")
    (place / "kv/slot.part").touch()
    binary = ""
    if script_python:
        script = place / "engine/llama-server"
        script.parent.mkdir()
        shutil.copy(HOSTILE / "attacks.py", script.parent)
        script.write_text(f"#!{script_python}\n{(HOSTILE / 'engine.py').read_text()}")
        script.chmod(0o755)
        binary = str(script)
    return LaunchOptions(
        place / "run", kv_dir=place / "kv", kv_max_bytes=2**20, llama_server=binary, memory_limit_bytes=LIMIT_BYTES
    )


def facts_of(place: Path, options: LaunchOptions, tcp_port: int, inherited: int) -> dict[str, Any]:
    return {
        "model": str(place / "m/model.gguf"),
        "secret": str(place / "secret"),
        "foreign_socket": str(place / "foreign.sock"),
        "abstract": f"\0corral-{place.name}",
        "datagrams": str(place / "foreign.sock"),
        "tcp_port": tcp_port,
        "inherited": inherited,
        "parent": os.getpid(),
        "run": str(place / "run"),
        "kv": str(place / "kv"),
        "max_file_bytes": options.kv_max_bytes,
        "memory_limit_bytes": LIMIT_BYTES,
        "skip": ["spawning"] if options.llama_server else [],  # a script may, and what it starts is confined as it is
    }


def started(
    python: str, uid: int, options: LaunchOptions, place: Path, facts: dict[str, Any], *inherited: int
) -> tuple[dict[str, Any], list[str]]:
    """What the real child with a hostile engine says of its sandbox, and what it prints; as handle.py starts it."""
    read_fd, write_fd = os.pipe()
    job = Job(RunnerSpec(place / "m/model.gguf"), options, place / "run/s.sock", os.getpid(), write_fd)
    environ = {**runner_environment(), "HOSTILE": json.dumps(facts), "PYTHONPATH": f"{ROOT / 'src'}:{HOSTILE}"}
    child = subprocess.Popen(
        [python, "-P", "-m", "corral.runner.child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place / "run",
        env=environ, pass_fds=(write_fd, *inherited), start_new_session=True,
        **as_user(uid),
    )  # fmt: skip
    os.close(write_fd)
    assert child.stdin is not None
    child.stdin.write(job.to_json() + "\n")
    child.stdin.flush()
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        lines = child.stdout.read().splitlines()
        with os.fdopen(read_fd, "rb") as messages:
            sandbox = json.loads(messages.readline())
        assert lines, child.stderr.read()
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            pipe.close()
    return sandbox, lines


def as_user(uid: int) -> dict[str, Any]:
    """What makes subprocess start something as this user."""
    return {"user": uid, "group": uid, "extra_groups": []} if uid != os.geteuid() else {}


def interpreter(uid: int) -> str:
    """A Python that this user can run: pytest's own, or the system's."""
    for python in (sys.executable, "/usr/bin/python3"):
        probe = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(probe, check=False, capture_output=True, **as_user(uid)).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip("no Python 3.11 that a plain user can run")


def unless_confined(sandbox: dict[str, Any]) -> None:
    if {"landlock", "seccomp"} & set(sandbox["missing"]):
        pytest.skip(f"this kernel confines less: {sandbox['missing']}")


@pytest.mark.parametrize("kind", CLASSES)
def test_nothing_of_a_class_succeeds(outcome: tuple[dict[str, Any], Report], case: Case, kind: str) -> None:
    sandbox, report = outcome
    unless_confined(sandbox)
    if kind == "spawning" and case.engine == "script":
        pytest.skip("a script may start programs, which are confined as it is")
    assert len(report[kind]) >= 5
    assert {name: result for name, result in report[kind].items() if result != "refused"} == {}


def test_what_an_engine_needs_goes_on_working(outcome: tuple[dict[str, Any], Report]) -> None:
    sandbox, report = outcome
    unless_confined(sandbox)
    assert {name: result for name, result in report["needs"].items() if result != "done"} == {}


def test_the_sandbox_says_what_it_does(outcome: tuple[dict[str, Any], Report], case: Case) -> None:
    sandbox, _ = outcome
    unless_confined(sandbox)
    assert set(sandbox["active"]) == {"no_new_privs", "rlimits", "capabilities", "landlock", "seccomp"}
    assert set(sandbox["missing"]) == ({"exec"} if case.engine == "script" else set())


IN_README = {
    "files": "no other files",
    "attributes": "nor their attributes",
    "network": "no connection of any kind",
    "processes": "no view of other processes and no signals to them",
    "spawning": "no program to start",
    "kernel": "none of the kernel's side doors",
    "memory": "no memory or disk beyond its limit",
}


def test_readme_promises_what_is_shown_here() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert set(IN_README) == set(CLASSES)
    assert [words for words in IN_README.values() if words not in readme] == []


PROGRAM = r"""
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
static void tell(const char *what, int result) { printf("%s=%d ", what, result < 0 ? errno : 0); }
int main(void) {
    char *words[] = {"/bin/sh", "-c", "echo reached", NULL};
    pid_t child = fork();
    if (child == 0) _exit(0);
    tell("fork", child);
    tell("exec", execv(words[0], words));
    tell("unix", connect(socket(AF_UNIX, SOCK_STREAM, 0), NULL, 0));
    tell("tcp", socket(AF_INET, SOCK_STREAM, 0));
    tell("setsid", setsid());
    fflush(stdout);
    return 0;
}
"""


def test_an_external_engine_that_is_a_program_starts_no_process_and_no_other_program(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    with tempfile.TemporaryDirectory(prefix="ch-") as folder:
        place = Path(folder)
        options = make_place(place, "")
        binary = place / "engine/llama-server"
        binary.parent.mkdir()
        subprocess.run([compiler, "-x", "c", "-", "-o", binary], input=PROGRAM, text=True, check=True)
        sandbox, output = started(sys.executable, os.geteuid(), replace(options, llama_server=str(binary)), place, {})
    unless_confined(sandbox)
    denied, refused = errno.EPERM, errno.EACCES
    assert output == [f"fork={denied} exec={refused} unix={denied} tcp={refused} setsid={denied} "]
