"""The sandbox, proven by a child that tries what a taken-over engine would: that fails, its own work succeeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.config import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.job import Job
from corral.runner.spec import LaunchOptions, RunnerSpec

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")]
ENVIRON = {**runner_environment(), "OMP_WAIT_POLICY": "passive"}  # other tests may run beside this one

CHILD = """
import ctypes, json, os, signal, socket, subprocess, sys, threading
from pathlib import Path
from corral.runner import sandbox
from corral.runner.job import Job

job = Job.from_json(sys.stdin.readline())
secret, parent = sys.argv[1], os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
report = sandbox.confine(sandbox.plan(job))

def syscall(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments)) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def listen_unix():
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(job.socket_path))
    server.close()

def abstract_socket():
    socket.socket(socket.AF_UNIX).connect(chr(0) + "corral-test-" + str(parent))

def thread():
    done = []
    worker = threading.Thread(target=lambda: done.append(1))
    worker.start(); worker.join()
    if not done:
        raise OSError(0, "no thread")

def fill_disk():
    with open(job.options.kv_dir / "big", "wb") as output:
        output.truncate(job.options.kv_max_bytes + 1)

def fork():
    if os.fork() == 0:
        os._exit(0)

x86 = os.uname().machine == "x86_64"
attempts = {
    "read another file": lambda: open(secret).read(),
    "list the home folder": lambda: os.listdir(Path.home()),
    "read /etc/passwd": lambda: open("/etc/passwd").read(),
    "read another process": lambda: open(f"/proc/{parent}/environ").read(),
    "write the model": lambda: open(job.spec.model_path, "r+b"),
    "remove the model": lambda: os.unlink(job.spec.model_path),
    "write beside the secret": lambda: open(secret + ".new", "w"),
    "write to /tmp": lambda: open("/tmp/corral-sandbox-test", "w"),
    "connect over TCP": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 1),
    "open a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "reach an abstract socket": abstract_socket,
    "exec": lambda: os.execv("/bin/true", ["/bin/true"]),
    "fork": fork,
    "spawn": lambda: subprocess.run(["/bin/true"]),
    "signal the server": lambda: os.kill(parent, 0),
    "ptrace": lambda: syscall(101 if x86 else 117, 0, 0, 0, 0),
    "read foreign memory": lambda: syscall(310 if x86 else 270, parent, 0, 0, 0, 0, 0),
    "mount": lambda: syscall(165 if x86 else 40, 0, 0, 0, 0, 0),
    "unshare": lambda: syscall(272 if x86 else 97, 0x10000000),
    "bpf": lambda: syscall(321 if x86 else 280, 0, 0, 0),
    "io_uring": lambda: syscall(425, 1, 0),
    "become another user": lambda: syscall(105 if x86 else 146, 65534),
    "change an owner": lambda: os.chown(job.options.kv_dir, 65534, 65534),
    "write more than allowed": fill_disk,
    # what it must be able to do
    "ok: read the model": lambda: open(job.spec.model_path, "rb").read(4),
    "ok: listen on its socket": listen_unix,
    "ok: save a slot": lambda: open(job.options.kv_dir / "slot", "wb").write(b"x"),
    "ok: start a thread": thread,
    "ok: import from the standard library": lambda: __import__("wave"),
}
results = {}
for name, attempt in attempts.items():
    try:
        attempt()
        results[name] = "done"
    except OSError as error:
        results[name] = f"refused: {error.errno}"
print(json.dumps({"active": report.active, "missing": report.missing, "results": results}))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A short folder for sockets."""
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        yield Path(folder)


@pytest.fixture
def outcome(place: Path) -> dict[str, Any]:
    """What the child could do."""
    import socket

    model, run, kv, secret = place / "m" / "model.gguf", place / "run", place / "kv", place / "secret"
    for folder in (model.parent, run, kv):
        folder.mkdir()
    model.write_bytes(b"GGUF")
    secret.write_text("hunter2")
    options = LaunchOptions(run, kv_dir=kv, kv_max_bytes=2**20)
    job = Job(RunnerSpec(model), options, run / "s.sock", os.getpid(), 2)
    with socket.socket() as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0corral-test-{os.getpid()}")
        abstract.listen()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(secret), str(listener.getsockname()[1])],
            input=job.to_json() + "\n", capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_nothing_forbidden_succeeds_and_nothing_needed_fails(outcome: dict[str, Any]) -> None:
    if "landlock" in outcome["missing"] or "seccomp" in outcome["missing"]:
        pytest.skip(f"this kernel confines less: {outcome['missing']}")
    wrong = {
        name: result
        for name, result in outcome["results"].items()
        if (result == "done") != name.startswith("ok: ")
    }  # fmt: skip
    assert wrong == {}


def test_the_report_names_every_mechanism_once(outcome: dict[str, Any]) -> None:
    names = {"no_new_privs", "rlimits", "capabilities", "landlock", "seccomp"}
    assert set(outcome["active"]) | set(outcome["missing"]) == names
    assert not set(outcome["active"]) & set(outcome["missing"])


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
