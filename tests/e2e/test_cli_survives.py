"""`corral run` while the model's process or the whole server is killed: told, kept, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.terminal import on_terminal

pytestmark = pytest.mark.e2e

LONG = "Write a very long story about a river."


@pytest.fixture
def env(own_server: ServerProcess, tmp_path: Path) -> dict[str, str]:
    """A user of this server, who would start it with the same home and store."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    ours = {"HOME": str(tmp_path), "CORRAL_HOST": f"127.0.0.1:{own_server.port}", "CORRAL_HOME": str(own_server.home)}
    return {**clean, **ours, "CORRAL_MODELS": str(own_server.models), "CORRAL_KERNELS": "off", "LANG": "C.UTF-8"}


def kill_runner(server: ServerProcess) -> None:
    (row,) = [runner for runner in server.request("GET", "/api/ps?verbose=1")["models"] if runner.get("pid")]
    os.kill(int(row["pid"]), signal.SIGKILL)


def test_an_answer_that_its_server_does_not_end_is_an_error(own_server: ServerProcess, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "corral", "run", "smollm2:135m", LONG]
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        begun = child.stdout.read(40)
        own_server.stop(signal.SIGKILL)
        rest, error = child.stdout.read(), child.stderr.read()
        assert child.wait(20) == 1
    assert (begun + rest).endswith("\n")
    assert error.startswith("Error: the answer was cut short")


def test_the_conversation_outlives_its_runner_and_its_server(own_server: ServerProcess, env: dict[str, str]) -> None:
    with on_terminal([sys.executable, "-m", "corral", "run", "smollm2:135m"], {**env, "TERM": "xterm"}) as child:
        try:
            child.wait_for("Send a message")
            child.type("/set parameter num_predict 2000\r")
            child.wait_for("Set parameter")
            child.type(f"{LONG}\r")
            child.wait_for("\n", times=child.screen.count("\n") + 3)  # what was typed, and two lines of the answer
            kill_runner(own_server)
            child.wait_for("\nError: ")
            child.wait_for(f">>> {LONG}", times=2)
            own_server.stop(signal.SIGKILL)
            child.type("\x15/set parameter num_predict 8\r")
            child.type("Say hi.\r")
            child.wait_for("started the corral server")
            child.wait_for("Send a message", times=child.screen.count("Send a message") + 1)  # after the answer
            assert child.screen.count("Error: ") == 1
            child.type("/bye\r")
            assert child.wait() == 0
        finally:
            subprocess.run([sys.executable, "-m", "corral", "stop", "--server"], env=env, check=False, timeout=60)
