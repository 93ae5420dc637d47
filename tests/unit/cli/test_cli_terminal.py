"""What people expect of a terminal program: JSON for scripts, near misses, completion, a doctor."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.native_api import FakeApi, Reply

import corral
from corral.cli.commands import COMMANDS
from corral.cli.nearest import nearest

Cli = Callable[..., Any]
MODELS = [{"name": "smollm2:135m", "digest": "ab", "size": 1}, {"name": "llama3.2:latest", "digest": "cd", "size": 2}]


def test_json_is_the_servers_answer_for_scripts(cli: Cli, api: FakeApi) -> None:
    api.routes["GET /api/tags"] = Reply({"models": MODELS})
    assert json.loads(cli("list", "--json").out) == {"models": MODELS}
    assert json.loads(cli("list", "SMOL", "--json").out) == {"models": MODELS[:1]}
    api.routes["GET /api/ps?verbose=1"] = Reply({"models": [{"name": "smollm2:135m", "slots": 4}]})
    assert json.loads(cli("ps", "--json").out)["models"][0]["slots"] == 4
    api.routes["POST /api/show"] = Reply({"capabilities": ["completion"], "details": {}})
    assert json.loads(cli("show", "smollm2:135m", "--json").out)["capabilities"] == ["completion"]


def test_a_prefix_that_no_model_has_is_said(cli: Cli, api: FakeApi) -> None:
    api.routes["GET /api/tags"] = Reply({"models": MODELS})
    outcome = cli("list", "nosuch")
    assert (outcome.status, outcome.err) == (0, "no model begins with nosuch\n")
    assert cli("list", "smol").err == ""


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("smollm2", ["smollm2:135m"]),
        ("smollm2:latest", ["smollm2:135m"]),
        ("smolm2", ["smollm2:135m"]),
        ("SMOLLM", ["smollm2:135m"]),
        ("lama3.2", ["llama3.2:latest"]),
        ("qqq", []),
        ("", []),
    ],
)
def test_names_close_to_what_was_typed(typed: str, found: list[str]) -> None:
    assert nearest(typed, ["smollm2:135m", "llama3.2:latest"]) == found


@pytest.mark.parametrize("words", [("show", "smollm2"), ("rm", "smollm2"), ("cp", "smollm2", "x")])
def test_a_model_that_is_not_there_brings_the_ones_that_are(cli: Cli, api: FakeApi, words: tuple[str, ...]) -> None:
    api.routes["GET /api/tags"] = Reply({"models": MODELS})
    missing = Reply({"error": "model 'smollm2' not found"}, 404)
    api.routes |= {"POST /api/show": missing, "POST /api/copy": missing, "DELETE /api/delete": missing}
    outcome = cli(*words)
    assert outcome.status == 1
    assert outcome.err.startswith("Error: model 'smollm2' not found\n\nDid you mean this?\n\tsmollm2:135m\n")


def test_a_missing_argument_shows_the_usage(cli: Cli) -> None:
    outcome = cli("run")
    assert outcome.err.startswith(
        "Error: requires at least 1 arg(s), only received 0\n\nUsage:\n  corral run MODEL [PROMPT]"
    )


@pytest.mark.parametrize(
    ("words", "some", "none"),
    [
        ([""], ["run", "doctor", "help"], ["__complete"]),
        (["sh"], ["show"], ["run"]),
        (["run", ""], ["smollm2:135m", "llama3.2:latest"], []),
        (["run", "smol"], ["smollm2:135m"], ["llama3.2:latest"]),
        (["rm", "a", "ll"], ["llama3.2:latest"], []),
        (["show", "--li"], ["--license"], ["--json"]),
        (["--ver"], ["--version", "--verbose"], []),
        (["import", ""], ["ollama", "lmstudio", "hf-cache"], []),
        (["serve", ""], [], ["smollm2:135m"]),
    ],
)
def test_what_could_come_next(cli: Cli, api: FakeApi, words: list[str], some: list[str], none: list[str]) -> None:
    api.routes["GET /api/tags"] = Reply({"models": MODELS})
    found = cli("__complete", *words).out.splitlines()
    assert set(some) <= set(found)
    assert not set(none) & set(found)


def test_completion_without_a_server_is_quiet(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        outcome = cli("__complete", "run", "", environ={"CORRAL_HOST": f"127.0.0.1:{taken.getsockname()[1]}"})
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(cli: Cli, shell: str) -> None:
    outcome = cli("completion", shell)
    assert "corral __complete" in outcome.out
    assert cli("completion", "tcsh").status == 1


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_commands_and_names_with_a_colon(api: FakeApi, tmp_path: Path, cli: Cli) -> None:
    api.routes["GET /api/tags"] = Reply({"models": MODELS})
    program = tmp_path / "corral"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m corral "$@"\n')
    program.chmod(0o755)
    ask = cli("completion", "bash").out + (
        'try() { COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDBREAKS=$\' \\t\\n:\'; _corral; echo "${COMPREPLY[@]}"; }\n'
        'try "corral sho"; try "corral run smol"; try "corral run smollm2:1"\n'
    )
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), **api.environ}
    done = subprocess.run(["bash", "-c", ask], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["show", "smollm2:135m", "135m"], done.stderr


def test_the_doctor_says_what_is_there_and_exits_by_it(cli: Cli, api: FakeApi) -> None:
    api.routes["GET /api/version"] = Reply({"version": corral.__version__})
    api.routes["GET /api/ps?verbose=1"] = Reply({"models": []})
    outcome = cli("doctor")
    assert outcome.status == 0, outcome.out
    for part in ("server", "keys", "engine", "kernels", "sandbox", "processor", "gpu", "memory", "disk", "store"):
        assert any(line[2:].startswith(part) for line in outcome.out.splitlines()), part
    broken = cli("doctor", "--json", environ={"CORRAL_LLAMA_SERVER": "/nowhere/llama-server"})
    found = {item["part"]: item for item in json.loads(broken.out)}
    assert (broken.status, found["engine"]["state"]) == (1, "broken")
    assert "CORRAL_LLAMA_SERVER" in found["engine"]["mend"]


def test_the_doctor_tells_a_free_port_from_one_that_cannot_be_had(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # held, and nobody listens
        here = f"127.0.0.1:{taken.getsockname()[1]}"
        held = cli("doctor", environ={"CORRAL_HOST": here})
    assert (held.status, "cannot listen there: Address already in use" in held.out) == (1, True)
    free = cli("doctor", environ={"CORRAL_HOST": here})
    assert (free.status, f"not running; http://{here} is free" in free.out) == (0, True)


def test_the_doctor_says_what_no_model_uses(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    blobs = tmp_path / "models/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"sha256-{'ab' * 32}").write_bytes(bytes(3_000_000))
    outcome = cli("doctor")
    assert "0 models, 0 B; 3 MB of parts that no model uses" in outcome.out
    assert "→ corral prune" in outcome.out


def test_the_doctor_names_damaged_models_and_what_mends_them(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "models/manifests/registry.ollama.ai/library/m/1"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    outcome = cli("doctor")
    assert outcome.status == 1
    assert "m:1" in outcome.out
    assert "→ corral pull m:1" in outcome.out


def test_every_command_names_code_that_exists() -> None:
    for command in COMMANDS:
        module, _, function = command.code.partition(":")
        assert callable(getattr(__import__(f"corral.cli.{module}", fromlist=[function]), function)), command.name


@pytest.mark.parametrize("host", ["bad:host:port", "a b", "user@host"])
def test_an_address_that_is_none_is_named(cli: Cli, host: str) -> None:
    outcome = cli("ps", environ={"CORRAL_HOST": host})
    assert outcome.status == 1
    assert outcome.err.startswith(f"Error: CORRAL_HOST={host!r}: expected ")


def test_run_alone_shows_its_usage_and_what_could_be_run(cli: Cli, api: FakeApi) -> None:
    api.routes["GET /api/tags"] = Reply({"models": MODELS})
    outcome = cli("run")
    assert outcome.err.startswith("Error: requires at least 1 arg(s), only received 0\n\nUsage:\n  corral run MODEL")
    assert outcome.err.endswith("Models here:\n\tsmollm2:135m\n\tllama3.2:latest\n\n")


def test_a_registry_that_nobody_answers_for_brings_what_needs_none(cli: Cli, api: FakeApi) -> None:
    text = 'pull model manifest: Get "https://r.example/v2/x": r.example cannot be reached: name not known'
    api.routes["POST /api/pull"] = Reply(stream=[{"status": "pulling manifest"}, {"error": text}])
    error = cli("pull", "gemma3").err
    assert "Error: r.example cannot be reached: name not known\n" in error
    assert "from the Python package index: gemma3:270m-pt" in error
    api.routes["POST /api/pull"] = Reply(stream=[{"error": "pull model manifest: file does not exist"}])
    assert cli("pull", "gemma3").err.endswith("Error: pull model manifest: file does not exist\n")


def test_ctrl_c_in_a_pull_says_what_is_kept(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_: object, __: object, ___: object) -> Any:
        yield {"status": "pulling a", "digest": "sha256:a", "total": 200_000_000, "completed": 100_000_000}
        yield {"status": "pulling b", "digest": "sha256:b", "total": 20_000_000, "completed": 17_000_000}
        raise KeyboardInterrupt

    monkeypatch.setattr("corral.cli.api.Api.stream", cut)
    told: list[str] = []
    monkeypatch.setattr("corral.cli.console.Console.note", lambda _, text="", *, end="\n": told.append(text))
    with pytest.raises(KeyboardInterrupt):
        cli("pull", "m")
    assert told[-1] == "\nkept 117 MB; the same command goes on from there"


def test_stop_needs_a_model_or_the_flag(cli: Cli) -> None:
    assert cli("stop").err == "Error: accepts 1 arg(s), received 0\n"


def test_stop_server_ends_corral_servers_of_this_machine_only(cli: Cli, api: FakeApi) -> None:
    for told in ({}, {"server": {"pid": os.getpid()}}, {"server": {"pid": 2**22 + 1}}):
        api.routes["GET /api/status?verbose=1"] = Reply(told)
        outcome = cli("stop", "--server")
        assert outcome.status == 1
        assert outcome.err.endswith("is not a corral server of this machine\n")


def test_a_command_loads_nothing_that_it_does_not_use() -> None:
    heavy = {"textual", "rich", "prompt_toolkit", "aiohttp", "starlette", "msgspec", "numpy", "asyncio", "xllamacpp"}
    code = (
        "import sys, corral.cli.main, corral.cli.reaching, corral.cli.models, corral.cli.usage, corral.cli.show\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


def test_answers_are_drawn_as_markdown_where_the_setting_says_so(cli: Cli, api: FakeApi) -> None:
    api.routes["POST /api/show"] = Reply({"capabilities": ["completion"], "details": {}})
    api.routes["POST /api/generate"] = Reply(stream=[{"response": "**bold** text"}, {"done": True}])
    assert "**bold**" in cli("run", "m", "hi", terminal=True).out
    drawn = cli("run", "m", "hi", terminal=True, environ={"CORRAL_MARKDOWN": "1", "NO_COLOR": "1"}).out
    assert drawn.strip() == "bold text"
    assert "**bold**" in cli("run", "m", "hi", environ={"CORRAL_MARKDOWN": "1"}).out  # a pipe gets what the model wrote
