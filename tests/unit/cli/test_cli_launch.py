"""`corral launch`: what is said before, what the program gets, what is asked once, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.native_api import FakeApi, Reply

from corral.cli.programs import PROGRAMS, Target

Cli = Callable[..., Any]
TELLS = """#!/bin/sh
printf '%s\\n' "$@" > "$HOME/arguments"
env > "$HOME/environment"
exit 7
"""


def tags(*models: tuple[str, str]) -> Reply:
    return Reply({"models": [{"name": name, "capabilities": capabilities.split()} for name, capabilities in models]})


@pytest.fixture
def server(api: FakeApi) -> FakeApi:
    """A server with one model that calls tools, whose window is 32768 of 131072."""
    info = {"general.architecture": "qwen3", "qwen3.context_length": 131072}
    shown = {"capabilities": ["completion", "tools"], "model_info": info, "parameters": "num_ctx    32768\ntop_k 3"}
    api.routes |= {
        "POST /api/show": Reply(shown),
        "GET /api/tags": tags(("qwen3:8b", "completion tools"), ("talker:latest", "completion"), ("mini", "embedding")),
        "GET /api/status?verbose=1": Reply({"limits": {"default_window": 4096}}),
        "POST /api/create": Reply(stream=[{"status": "success"}]),
    }
    return api


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that write down what they got, on a path of their own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in PROGRAMS:
        script = folder / program.name
        script.write_text(TELLS)
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def launched(server: FakeApi, tmp_path: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[str], str]:
    """The command in a process of its own, which the program takes the place of: its end, arguments, environment."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CORRAL_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "corral", "launch", *words],
        env={**environ, **server.environ, "MINE": "kept"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    arguments, environment = tmp_path / "arguments", tmp_path / "environment"
    return (
        done,
        arguments.read_text().splitlines() if arguments.exists() else [],
        environment.read_text() if environment.exists() else "",
    )


def test_the_program_takes_our_place_and_gets_what_was_said(server: FakeApi, installed: Path, tmp_path: Path) -> None:
    done, arguments, environment = launched(server, tmp_path, "claude", "--", "-p", "hi there", "--verbose")
    assert done.returncode == 7
    assert arguments == ["--model", "qwen3:8b", "-p", "hi there", "--verbose"]
    for line in ("ANTHROPIC_AUTH_TOKEN=corral", "CLAUDE_CODE_ATTRIBUTION_HEADER=0", "MINE=kept"):
        assert line in environment.splitlines()
    assert f"ANTHROPIC_BASE_URL=http://{server.environ['CORRAL_HOST']}\n" in environment
    assert done.stderr.startswith("Claude Code with qwen3:8b at http://127.0.0.1")
    assert "  sets    CLAUDE_CODE_AUTO_COMPACT_WINDOW=32768" in done.stderr
    assert json.loads((tmp_path / "home/launch/chosen.json").read_text()) == {"claude": "qwen3:8b"}


def test_a_file_that_a_program_reads_is_ours_and_is_said(server: FakeApi, installed: Path, tmp_path: Path) -> None:
    done, arguments, _ = launched(server, tmp_path, "aider", "--model", "talker")
    file = tmp_path / "home/launch/aider-models.json"
    assert f"  writes  {file}" in done.stderr
    assert str(file) in arguments
    assert json.loads(file.read_text())["openai/talker"]["max_input_tokens"] == 32768


def test_a_dry_run_writes_sets_and_starts_nothing(cli: Cli, server: FakeApi, installed: Path, tmp_path: Path) -> None:
    outcome = cli("launch", "aider", "--model", "qwen3:8b", "--num-ctx", "16384", "--dry-run")
    assert outcome.status == 0
    assert "  runs    " in outcome.out
    assert "openai/qwen3:8b-ctx16384" in outcome.out
    assert outcome.err == "would make qwen3:8b-ctx16384: the weights of qwen3:8b, a window of 16384\n"
    assert not (tmp_path / "home" / "launch").exists()
    assert not server.bodies("POST /api/create")


def test_a_wider_window_is_a_model_of_its_own_made_once(
    cli: Cli, server: FakeApi, installed: Path, tmp_path: Path
) -> None:
    done, arguments, _ = launched(server, tmp_path, "claude", "--num-ctx", "65536")
    assert "makes qwen3:8b-ctx65536" in done.stderr
    assert arguments[:2] == ["--model", "qwen3:8b-ctx65536"]
    assert server.bodies("POST /api/create")[0]["parameters"] == {"num_ctx": 65536}
    server.routes["GET /api/tags"] = tags(("qwen3:8b-ctx65536", "completion tools"))
    again, _, _ = launched(server, tmp_path, "claude", "--num-ctx", "65536")
    assert "makes" not in again.stderr
    assert len(server.bodies("POST /api/create")) == 1


def test_a_window_too_small_is_told_with_what_mends_it(cli: Cli, server: FakeApi, installed: Path) -> None:
    info = {"general.architecture": "llama", "llama.context_length": 131072}
    server.routes["POST /api/show"] = Reply({"capabilities": ["tools"], "model_info": info, "parameters": ""})
    told = cli("launch", "claude", "--dry-run", "--model", "m")
    assert "about 11500 tokens, the window of m is 4096: add --num-ctx 32768" in told.err
    assert "window 4096" in told.out
    server.routes["POST /api/show"] = Reply(
        {"capabilities": ["tools"], "model_info": {**info, "llama.context_length": 8192}}
    )
    assert "m holds 8192 at most: choose another model" in cli("launch", "claude", "--dry-run", "--model", "m").err


def test_a_model_that_calls_no_tools_is_refused_for_a_program_that_needs_them(
    cli: Cli, server: FakeApi, installed: Path
) -> None:
    server.routes["POST /api/show"] = Reply({"capabilities": ["completion"]})
    outcome = cli("launch", "codex", "--model", "talker")
    assert (outcome.status, "Codex needs a model that calls tools, talker does not" in outcome.err) == (1, True)


def test_what_was_chosen_is_not_asked_again(cli: Cli, server: FakeApi, installed: Path, tmp_path: Path) -> None:
    server.routes["GET /api/tags"] = tags(("a:latest", "tools"), ("b:latest", "tools"))
    outcome = cli("launch", "opencode")
    assert (outcome.status, outcome.err) == (1, "Error: name the model with --model: a:latest, b:latest\n")
    launched(server, tmp_path, "opencode", "--model", "b")
    done, _, environment = launched(server, tmp_path, "opencode")
    assert done.returncode == 7
    config = next(line for line in environment.splitlines() if line.startswith("OPENCODE_CONFIG_CONTENT="))
    assert json.loads(config.partition("=")[2])["model"] == "corral/b"
    server.routes["POST /api/show"] = Reply({"error": "model 'b' not found"}, status=404)
    assert "name the model with --model" in cli("launch", "opencode").err  # it was deleted meanwhile


def test_a_program_that_is_not_here_says_how_it_is_installed(
    cli: Cli, server: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("HOME", str(tmp_path))
    outcome = cli("launch", "codex")
    assert outcome.err == "Error: Codex is not installed; its makers say: npm install -g @openai/codex\n"
    assert "not installed" in cli("launch").out
    assert cli("launch", "codx").err == 'Error: no program "codx" to launch; did you mean codex?\n'


def test_a_key_goes_to_the_program_and_not_to_the_screen(cli: Cli, server: FakeApi, installed: Path) -> None:
    outcome = cli("launch", "codex", "--dry-run", environ={"CORRAL_API_KEYS": "sesame"})
    assert "CORRAL_LAUNCH_KEY=…" in outcome.out
    assert "sesame" not in outcome.out + outcome.err


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_program_is_led_to_the_server_and_the_model(program: Any, tmp_path: Path) -> None:
    plan = program.plan(Target("http://host:1", "", "qwen3:8b", 32768, tmp_path))
    told = " ".join([*(each.value for each in plan.settings), *plan.arguments])
    assert "http://host:1" in told
    assert "qwen3:8b" in told
    assert len({each.name for each in plan.settings}) == len(plan.settings)


def test_codex_gets_toml_and_opencode_gets_json(tmp_path: Path) -> None:
    import tomllib

    target = Target("http://host:1", "k", 'odd"name', 16384, tmp_path, sees=True)
    plans = {program.name: program.plan(target) for program in PROGRAMS}
    words = plans["codex"].arguments
    config = tomllib.loads("\n".join(words[place + 1] for place, word in enumerate(words) if word == "-c"))
    assert config["model_providers"]["corral"]["base_url"] == "http://host:1/v1"
    assert config["model_auto_compact_token_limit"] == 12288
    (catalog,) = plans["codex"].files.values()
    (model,) = json.loads(catalog)["models"]
    assert (model["slug"], model["input_modalities"]) == ('odd"name', ["text", "image"])
    content = json.loads(plans["opencode"].settings[-1].value)
    assert content["provider"]["corral"]["models"]['odd"name']["limit"] == {"context": 16384, "output": 4096}
    assert content["provider"]["corral"]["models"]['odd"name']["modalities"]["input"] == ["text", "image"]


def test_a_dry_run_starts_no_server_and_pulls_nothing(cli: Cli, installed: Path, server: FakeApi) -> None:
    gone = {"CORRAL_HOST": "127.0.0.1:1"}
    assert "run 'corral serve'" in cli("launch", "codex", "--dry-run", environ=gone).err
    assert cli("launch", environ=gone).status == 0
    server.routes["POST /api/show"] = Reply({"error": "model 'x' not found"}, status=404)
    assert cli("launch", "codex", "--dry-run", "--model", "x").status == 1
    assert not server.bodies("POST /api/pull")
